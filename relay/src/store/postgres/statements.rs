//! Every statement of the hot path, prepared once per session. Each writes all rows of its kind at once: the columns come
//! as arrays, so that a tick costs a fixed number of statements however many rows it has.

use tokio_postgres::{Client, Statement};

use super::error::PostgresError;

macro_rules! statements {
    ($($name:ident: $sql:expr;)+) => {
        /// The statements, by what they do.
        pub(super) struct Statements {
            $(pub(super) $name: Statement,)+
        }

        impl Statements {
            /// Prepares all of them, which also tells whether the schema is what they need.
            pub(super) async fn prepare(client: &Client) -> Result<Self, PostgresError> {
                Ok(Self { $($name: client.prepare($sql).await?,)+ })
            }
        }
    };
}

statements! {
    pass: super::session::PASS;
    lease: super::workers::LEASE;
    lock_entities: "SELECT 1 FROM entity WHERE id=ANY($1::bigint[]) ORDER BY id FOR UPDATE";
    make_entities: "INSERT INTO entity(id,ver,doc) SELECT i,1,d FROM unnest($1::bigint[],$2::bytea[]) u(i,d)
        ON CONFLICT DO NOTHING RETURNING id";
    change_entities: "UPDATE entity SET ver=u.v+1, doc=u.d FROM unnest($1::bigint[],$2::bigint[],$3::bytea[]) u(i,v,d)
        WHERE id=u.i AND ver=u.v RETURNING id";
    touch_entities: "UPDATE entity SET ver=u.v+1 FROM unnest($1::bigint[],$2::bigint[]) u(i,v)
        WHERE id=u.i AND ver=u.v RETURNING id";
    same_entities: "SELECT id FROM entity JOIN unnest($1::bigint[],$2::bigint[]) u(i,v) ON id=u.i AND ver=u.v
        ORDER BY id FOR SHARE OF entity";
    put_members: "INSERT INTO member(key,entity) SELECT * FROM unnest($1::bytea[],$2::bigint[]) ON CONFLICT DO NOTHING";
    pass_members: "UPDATE member SET entity=u.e FROM unnest($1::bytea[],$2::bigint[],$3::bigint[]) u(k,w,e)
        WHERE key=u.k AND entity=u.w";
    drop_members: "DELETE FROM member USING unnest($1::bytea[],$2::bigint[]) u(k,w) WHERE key=u.k AND entity=u.w";
    put_claims: "INSERT INTO claim(key,entity) SELECT * FROM unnest($1::bytea[],$2::bigint[]) ON CONFLICT DO NOTHING";
    pass_claims: "UPDATE claim SET entity=u.e FROM unnest($1::bytea[],$2::bigint[],$3::bigint[]) u(k,w,e)
        WHERE key=u.k AND entity=u.w";
    drop_claims: "DELETE FROM claim USING unnest($1::bytea[],$2::bigint[]) u(k,w) WHERE key=u.k AND entity=u.w";
    put_hints: "INSERT INTO hint(key,entity) SELECT * FROM unnest($1::bytea[],$2::bigint[]) ON CONFLICT DO NOTHING";
    drop_hints: "DELETE FROM hint USING unnest($1::bytea[],$2::bigint[]) u(k,e) WHERE key=u.k AND entity=u.e";
    put_tombstones: "INSERT INTO tombstone(key,at) SELECT * FROM unnest($1::bytea[],$2::bigint[])
        ON CONFLICT(key) DO UPDATE SET at=excluded.at";
    put_goings: "INSERT INTO going(link,at) SELECT l,a FROM unnest($1::text[],$2::bigint[]) WITH ORDINALITY u(l,a,n)
        ORDER BY n";
    drop_goings: "DELETE FROM going WHERE link=ANY($1::text[])";
    put_sizes: "INSERT INTO size(link,n) SELECT * FROM unnest($1::text[],$2::bigint[])
        ON CONFLICT(link) DO UPDATE SET n=size.n+excluded.n";
    forget_decisions: "DELETE FROM decision WHERE entity=ANY($1::bigint[])";
    forget_letters: "DELETE FROM dead_letter WHERE entity=ANY($1::bigint[])";
    forget_hints: "DELETE FROM hint WHERE entity=ANY($1::bigint[])";
    forget_questions: "UPDATE question SET subject='' WHERE entity=ANY($1::bigint[])";
    put_changes: "INSERT INTO change(id,at) SELECT * FROM unnest($1::bytea[],$2::bigint[]) ON CONFLICT DO NOTHING";
    count_repeats: "UPDATE change SET again=again+u.n FROM (SELECT k, count(*)::int n FROM unnest($1::bytea[]) k
        GROUP BY k) u WHERE id=u.k";
    put_trail: "INSERT INTO trail(at,entity,previous,happened)
        SELECT * FROM unnest($1::bigint[],$2::bigint[],$3::bigint[],$4::bytea[])";
    drop_trail: "DELETE FROM trail USING unnest($1::bigint[],$2::bigint[]) u(a,e) WHERE at=u.a AND entity=u.e";
    put_work: "INSERT INTO work(target,entity,due,attempts,owner,until)
        SELECT * FROM unnest($1::int[],$2::bigint[],$3::bigint[],$4::bigint[],$5::bigint[],$6::bigint[])
        ON CONFLICT(target,entity) DO UPDATE
        SET due=excluded.due, attempts=excluded.attempts, owner=excluded.owner, until=excluded.until";
    put_kept: "INSERT INTO kept(shelf,name,value) SELECT * FROM unnest($1::smallint[],$2::text[],$3::bytea[])
        ON CONFLICT(shelf,name) DO UPDATE SET value=excluded.value";
    drop_kept: "DELETE FROM kept USING unnest($1::smallint[],$2::text[]) u(s,n) WHERE shelf=u.s AND name=u.n";
    drop_work: "DELETE FROM work USING unnest($1::int[],$2::bigint[]) u(t,e) WHERE target=u.t AND entity=u.e";
    put_outcomes: "INSERT INTO outcome(accepted,change,target,link,entity,previous,kind,at,took)
        SELECT * FROM unnest($1::bigint[],$2::bytea[],$3::int[],$4::int[],$5::bigint[],$6::bigint[],$7::smallint[],
        $8::bigint[],$9::bigint[]) ON CONFLICT DO NOTHING RETURNING link,target,kind";
    put_sums: "INSERT INTO sum(link,target,what,n) SELECT * FROM unnest($1::int[],$2::int[],$3::smallint[],$4::bigint[])
        ON CONFLICT(link,target,what) DO UPDATE SET n=sum.n+excluded.n";
    put_open: "INSERT INTO open_sum(link,target,at,held,n)
        SELECT * FROM unnest($1::int[],$2::int[],$3::int[],$4::boolean[],$5::bigint[])
        ON CONFLICT(link,target,at,held) DO UPDATE SET n=open_sum.n+excluded.n";
    put_counters: "INSERT INTO counter(name,n) SELECT * FROM unnest($1::smallint[],$2::bigint[])
        ON CONFLICT(name) DO UPDATE SET n=counter.n+excluded.n";
    move_positions: "INSERT INTO position(part,off,epoch) SELECT p,o,$3 FROM unnest($1::bigint[],$2::bigint[]) u(p,o)
        ON CONFLICT(part) DO UPDATE SET off=greatest(position.off,excluded.off) WHERE position.epoch=excluded.epoch
        RETURNING part";
    put_letters: "INSERT INTO dead_letter(entity,target,at,code,message,fields) SELECT e,t,a,c,m,f
        FROM unnest($1::bigint[],$2::int[],$3::bigint[],$4::text[],$5::bytea[],$6::text[])
        WITH ORDINALITY u(e,t,a,c,m,f,n) ORDER BY n";
    close_letters: "UPDATE dead_letter SET state=u.s, closed=u.a FROM unnest($1::bigint[],$2::text[],$3::bigint[]) u(i,s,a)
        WHERE id=u.i AND state='open'";
    put_questions: "INSERT INTO question(id,entity,tenant,link,kind,subject,since)
        SELECT * FROM unnest($1::bigint[],$2::bigint[],$3::text[],$4::text[],$5::text[],$6::text[],$7::bigint[])";
    end_questions: "UPDATE question SET ended=u.a, by=u.b, choice=u.c
        FROM unnest($1::bigint[],$2::bigint[],$3::text[],$4::text[]) u(i,a,b,c) WHERE id=u.i AND ended IS NULL";
    put_decisions: "INSERT INTO decision(at,entity,field,rule,ruling,edit_by,edit_lo,edit_hi,force_by,force_lo,force_hi,
        author,change,value) SELECT a,e,f,r,o,eb,el,eh,fb,fl,fh,w,c,v FROM unnest($1::bigint[],$2::bigint[],$3::text[],
        $4::text[],$5::text[],$6::int[],$7::bigint[],$8::bigint[],$9::int[],$10::bigint[],$11::bigint[],$12::text[],
        $13::bytea[],$14::bytea[]) WITH ORDINALITY u(a,e,f,r,o,eb,el,eh,fb,fl,fh,w,c,v,n) ORDER BY n";
    put_audit: "INSERT INTO audit(at,who,what,subject,before,after) SELECT a,w,d,s,b,f
        FROM unnest($1::bigint[],$2::text[],$3::text[],$4::text[],$5::bytea[],$6::bytea[])
        WITH ORDINALITY u(a,w,d,s,b,f,n) ORDER BY n";
    entity: "SELECT e.ver, CASE WHEN e.ver<>$2 THEN e.doc END, w.target, w.due, w.attempts, w.owner, w.until
        FROM entity e LEFT JOIN work w ON w.entity=e.id AND e.ver<>$2 WHERE e.id=$1 ORDER BY w.target";
    member: "SELECT entity FROM member WHERE key=$1";
    claim: "SELECT entity FROM claim WHERE key=$1";
    hints: "SELECT ARRAY(SELECT entity FROM hint WHERE key=u.k ORDER BY entity LIMIT $2)
        FROM unnest($1::bytea[]) WITH ORDINALITY u(k,n) ORDER BY n";
    guard: "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) k";
    find_members: "SELECT 1 FROM member WHERE key=ANY($1::bytea[])";
    same_members: "SELECT 1 FROM member JOIN unnest($1::bytea[],$2::bigint[]) u(k,w) ON key=u.k AND entity=u.w
        ORDER BY key FOR SHARE OF member";
    find_claims: "SELECT 1 FROM claim WHERE key=ANY($1::bytea[])";
    same_claims: "SELECT 1 FROM claim JOIN unnest($1::bytea[],$2::bigint[]) u(k,w) ON key=u.k AND entity=u.w
        ORDER BY key FOR SHARE OF claim";
    tombstone: "SELECT at FROM tombstone WHERE key=$1";
    change: "SELECT at FROM change WHERE id=$1";
    letter: "SELECT entity,target,fields FROM dead_letter WHERE id=$1 AND state='open'";
    question: "SELECT entity,ended,by,choice FROM question WHERE id=$1";
    documents: "SELECT id,doc FROM entity WHERE id>$1 ORDER BY id LIMIT $2";
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Statements")
    }
}
