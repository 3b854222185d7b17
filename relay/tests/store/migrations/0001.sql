-- What a relay of version 1 may have left: a record with a member, work and a claim, and a change that was taken.
INSERT INTO meta(key,value) VALUES('topic','topic'),('epoch','7'),('salt','000102030405060708090a0b0c0d0e0f');
INSERT INTO entity(id,ver,doc) VALUES(5,3,'\x6f6e65');
INSERT INTO member(key,entity) VALUES('\x00000000000000000000000000000001',5);
INSERT INTO work(target,entity,due,attempts,owner,until) VALUES(2,5,100,1,7,105);
INSERT INTO change(id,at) VALUES('\x00000000000000000000000000000002',50);
INSERT INTO position(part,off) VALUES(3,12);
