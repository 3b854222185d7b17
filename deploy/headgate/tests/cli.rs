//! The program as a user meets it: the built binary, its output, its exit codes. A canned server stands in for a
//! running one, because these tests are about what the commands make of an answer.

#![expect(clippy::unwrap_used, reason = "a test whose stage cannot be set has failed")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::json;
use tempfile::TempDir;

/// A configuration without faults or warnings, whose one CRM is at `crm`.
fn file(crm: &str) -> String {
    format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[[connection]]\nname = \"hub\"\n\
         tenant = \"acme\"\nsystem = \"hubspot\"\naccount = \"5550123\"\nbase_url = \"{crm}\"\n\
         auth = {{ kind = \"bearer\", token_env = \"TOKEN\" }}\n[[endpoint]]\nname = \"app\"\n\
         key = \"lp8tCkWv3fZ0yQ2mN7rBxA\"\nprovider = \"hubspot\"\nconnection = \"hub\"\nsecret_env = \"SECRET\"\n"
    )
}

fn folder_with(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// The program in an environment of its own: nothing of the machine's leaks in.
fn headgate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    command.env_clear().current_dir(folder).env("TOKEN", "token-1").env("SECRET", "secret-1").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    headgate(&std::env::temp_dir()).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address nothing listens on.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A server that answers one request and gives its first line back.
fn answering(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = head(&mut stream);
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
            .unwrap();
        request
    });
    (url, thread)
}

/// The first line of a request; reads to the end of its header.
fn head(stream: &mut TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    assert!(lines.any(|line| line.is_empty()));
    first
}

/// Takes a whole request with a body, and gives that.
fn body(stream: &mut TcpStream) -> serde_json::Value {
    let mut reader = BufReader::new(stream);
    let (mut line, mut bytes) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(("content-length", n)) = line.split_once(": ") {
            bytes = n.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn help_of_every_command() {
    let commands: [&[&str]; 26] = [
        &[],
        &["serve"],
        &["demo"],
        &["simulate"],
        &["check"],
        &["verify"],
        &["tail"],
        &["record"],
        &["record", "show"],
        &["record", "list"],
        &["deadletter"],
        &["deadletter", "list"],
        &["deadletter", "show"],
        &["deadletter", "retry"],
        &["deadletter", "skip"],
        &["conflict"],
        &["conflict", "list"],
        &["conflict", "show"],
        &["conflict", "resolve"],
        &["replay"],
        &["subscription"],
        &["subscription", "list"],
        &["subscription", "show"],
        &["subscription", "replay"],
        &["subscription", "enable"],
        &["completion"],
    ];
    for command in commands {
        let output = run(&[command, &["--help"]].concat());
        assert_eq!(code(&output), 0, "{command:?}");
        let name = if command.is_empty() { "headgate".to_owned() } else { command.join("_") };
        insta::assert_snapshot!(name, out(&output));
    }
}

#[test]
fn usage_errors_are_2_and_name_what_was_meant() {
    for args in [&[][..], &["serv"], &["serve", "--colour"], &["verify"], &["simulate"], &["demo", "--rate", "0"]] {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert_eq!(out(&output), "", "{args:?}");
    }
    assert!(err(&run(&["serv"])).contains("'serve'"));
}

#[test]
fn check_tells_every_line_and_its_exit_code() {
    let (folder, path) = folder_with("headgate.toml", &file("http://127.0.0.1:9"));
    let good = headgate(folder.path()).arg("check").output().unwrap();
    assert_eq!(
        out(&good),
        "ok    gateway: listens on 127.0.0.1:0, called as the address it gets\n\
         ok    admin: listens on 127.0.0.1:0\n\
         ok    stream: embedded, 24 partitions, kept for 7d\n\
         ok    connection[hub]: hubspot 5550123 at http://127.0.0.1:9, version 2026-09\n\
         ok    endpoint[app]: hubspot webhooks of hub, key hidden\n\
         5 ok, 0 warn, 0 fail\n"
    );
    assert_eq!(code(&good), 0);

    std::fs::write(&path, "[gateway]\nlisten = 1\npublic = \"x\"\n").unwrap();
    let bad = headgate(folder.path()).args(["check", "headgate.toml"]).output().unwrap();
    assert_eq!(
        out(&bad),
        "fail  line 2: gateway.listen: it is a whole number, not text\n      fix: put it in quotes\n\
         fail  line 3: gateway.public: this key is not known\n      fix: did you mean \"public_url\"?\n\
         0 ok, 0 warn, 2 fail\n"
    );
    assert_eq!(code(&bad), 3);
    assert_eq!(code(&headgate(folder.path()).args(["check", "nowhere.toml"]).output().unwrap()), 3);
}

#[test]
fn check_online_is_4_when_a_crm_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = format!("http://{}", listener.local_addr().unwrap());
    for (crm, expected, level) in [(there, 0, "ok"), (nowhere(), 4, "fail")] {
        let (folder, _) = folder_with("headgate.toml", &file(&crm));
        let output = headgate(folder.path()).args(["check", "--online", "--json"]).output().unwrap();
        assert_eq!(code(&output), expected, "{}", out(&output));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let lines = answer["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["about"] == "connection[hub].base_url").unwrap();
        assert_eq!(line["level"], level);
    }
}

#[test]
fn a_bad_configuration_stops_serve_with_every_fault_on_stderr() {
    let text = file("nonsense").replace("\"SECRET\"", "\"NOT_SET\"");
    let (folder, _) = folder_with("bad.toml", &text);
    let output = headgate(folder.path()).args(["serve", "--config", "bad.toml"]).output().unwrap();
    assert_eq!(code(&output), 3);
    assert_eq!(out(&output), "");
    assert_eq!(
        err(&output),
        "fault: line 10: connection[hub].base_url\n\
         \x20 problem: it does not begin with http:// or https://\n\
         \x20 fix:     write scheme, host and prefix only, like \"https://api.example.com\"\n\
         fault: line 17: endpoint[app].secret_env\n\
         \x20 problem: the environment variable NOT_SET is not set\n\
         \x20 fix:     set NOT_SET before the start\n\
         bad.toml: 2 faults\n"
    );
}

/// A program that serves in `folder`, and its line that says so.
fn serving(folder: &Path) -> (Child, String) {
    let mut child = headgate(folder)
        .args(["serve", "--config", "headgate.toml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    (child, ready)
}

fn send(child: &Child, signal: &str) {
    let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

fn terminate(child: &Child) {
    send(child, "-TERM");
}

#[test]
fn a_hangup_is_no_end() {
    let (folder, _) = folder_with("headgate.toml", &file("http://127.0.0.1:9"));
    let (mut child, _) = serving(folder.path());
    send(&child, "-HUP");
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0), "it drains");
}

#[test]
fn a_container_knows_whether_its_program_is_ready() {
    let healthy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../healthy");
    let (folder, _) = folder_with("headgate.toml", &file("http://127.0.0.1:9"));
    let (mut child, ready) = serving(folder.path());
    let admin = ready.trim_end().split_once("admin=http://").unwrap().1;
    let ask = || Command::new(&healthy).arg(admin).stderr(Stdio::null()).status().unwrap().success();
    assert!(ask(), "{ready}");
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!ask(), "nobody is there any more");
}

#[test]
fn serve_says_where_it_is_and_drains_on_sigterm() {
    let (folder, _) = folder_with("headgate.toml", &file("http://127.0.0.1:9"));
    let (mut child, ready) = serving(folder.path());
    assert!(ready.starts_with("ready gateway=http://127.0.0.1:"), "{ready}");
    terminate(&child);
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{log}");
    assert!(folder.path().join("data/stream").is_dir());
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(["ts", "level", "target", "msg"].iter().all(|key| line[key].is_string()), "{line}");
    }
    assert!(!log.contains("token-1") && !log.contains("secret-1"), "{log}");
}

#[test]
fn vectors_are_counted_and_a_failure_is_1() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../gateway/tests/vectors/hubspot.json");
    let output = run(&["verify", "--vectors", vectors.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(out(&output).ends_with("\n37 passed, 0 failed\n"), "{}", out(&output));

    let broken = r#"{"format":1,"provider":"zoho","cases":[{"name":"one","scheme":"zoho","expect":"accept"}]}"#;
    let (folder, _) = folder_with("zoho.json", broken);
    let output = headgate(folder.path()).args(["verify", "--vectors", "zoho.json"]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert_eq!(
        out(&output),
        "FILE       PROVIDER  PASSED  FAILED\n\
         zoho.json  zoho      0       1\n\
         failed: zoho.json: one: expected accept, got error: this scheme is not available in this version\n\
         0 passed, 1 failed\n"
    );
    assert_eq!(code(&headgate(folder.path()).args(["verify", "--vectors", "nowhere.json"]).output().unwrap()), 1);
}

#[test]
fn a_captured_request_is_explained_without_its_secret() {
    let request = r#"{"scheme":"standard-webhooks","now_ms":1614265331000,"method":"POST",
        "url":"https://hooks.example.com/in/native","headers":{"webhook-id":"msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp":"1614265330","webhook-signature":"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        "body":"{\"test\": 2432232314}"}"#;
    let (folder, _) = folder_with("request.json", request);
    let verify = |secret: &str| {
        let args = ["verify", "--request", "request.json", "--secret-env", "HOOK", "--json"];
        headgate(folder.path()).env("HOOK", secret).args(args).output().unwrap()
    };
    let good = verify("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    assert_eq!(code(&good), 0, "{}{}", out(&good), err(&good));
    let answer: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((answer["accepted"].as_bool(), answer["timestamp"].as_str()), (Some(true), Some("1614265330")));
    assert!(!out(&good).contains("MfKQ9r8"));
    assert_eq!(code(&verify("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), 1);
    assert_eq!(code(&verify("")), 2);
}

#[test]
fn a_server_that_is_not_there_is_4() {
    let url = nowhere();
    for command in [&["record", "list"][..], &["deadletter", "list"], &["tail"]] {
        let output = run(&[command, &["--admin", &url]].concat());
        assert_eq!(code(&output), 4, "{command:?}");
        let expected = format!(
            "no server answers at {url}: Connection refused (os error 111)\n\
                                Is it running? Name another one with --config FILE or --admin URL.\n"
        );
        assert_eq!(err(&output), expected, "{command:?}");
    }
}

#[test]
fn a_new_secret_whose_answer_is_lost_is_asked_for_again_and_is_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let asked = |n: usize| {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = body(&mut stream);
            let (status, answer) = match n {
                // It has taken the order, and hangs up.
                0 => return asked,
                1 => ("503 Service Unavailable", json!({ "title": "no", "code": "subscription_busy" })),
                _ => ("200 OK", json!({ "secret": asked["secret"], "subscription": { "name": "copy" } })),
            };
            let answer = answer.to_string();
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
            asked
        };
        (0..3).map(asked).collect::<Vec<_>>()
    });
    let output = run(&["subscription", "secret", "copy", "--at-once", "--admin", &url]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let asked = server.join().unwrap();
    let secret = asked[0]["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && out(&output).contains(secret), "{}", out(&output));
    assert!(asked.iter().all(|asked| *asked == json!({ "secret": secret, "at_once": true })), "{asked:?}");
}

#[test]
fn the_admin_address_is_read_from_a_file_that_is_broken_elsewhere() {
    let (url, server) =
        answering("200 OK", "{\"records\":[{\"entity\":1,\"object\":\"contact\",\"state\":\"in sync\"}]}");
    let listen = url.trim_start_matches("http://");
    let (folder, _) = folder_with("headgate.toml", &format!("[gateway]\nlisten = 7\n[admin]\nlisten = \"{listen}\"\n"));
    let output = headgate(folder.path()).args(["record", "list", "--limit", "5"]).output().unwrap();
    assert_eq!(out(&output), "ENTITY  OBJECT   STATE\n1       contact  in sync\n", "{}", err(&output));
    assert_eq!(code(&output), 0);
    assert_eq!(server.join().unwrap(), "GET /v1/records?limit=5 HTTP/1.1");
}

#[test]
fn a_record_is_asked_for_by_its_path() {
    let (url, server) = answering("200 OK", "{\"entity\":1,\"members\":[{\"connection\":\"hub\",\"id\":\"501\"}]}");
    let output = run(&["record", "show", "hubspot", "contact", "5/1", "--admin", &url]);
    assert_eq!(
        out(&output),
        "entity  1\n\nmembers\nCONNECTION  ID   STATE  GUARD  CONNECTION IS\nhub         501  -      -      -\n",
        "{}",
        err(&output)
    );
    assert_eq!(server.join().unwrap(), "GET /v1/records/hubspot/contact/5%2F1 HTTP/1.1");
}

#[test]
fn a_problem_is_told_with_its_detail_and_is_1() {
    let body = "{\"title\":\"no such dead letter\",\"detail\":\"17 was retried already\",\"code\":\"gone\"}";
    let (url, server) = answering("404 Not Found", body);
    let output = run(&["deadletter", "retry", "17", "--admin", &url]);
    assert_eq!((code(&output), err(&output).as_str()), (1, "no such dead letter: 17 was retried already\n"));
    assert_eq!(server.join().unwrap(), "POST /v1/deadletters/17/retry HTTP/1.1");
    let (url, _server) = answering("200 OK", "<html>");
    let output = run(&["deadletter", "list", "--admin", &url]);
    assert_eq!(
        (code(&output), err(&output)),
        (1, format!("{url} is not the admin API of headgate: its answer is not JSON\n"))
    );
}

#[test]
fn tail_prints_lines_until_the_server_ends() {
    let (url, server) = answering("200 OK", "{\"offset\":1,\"type\":\"a\"}\n\n{\"offset\":2}\n");
    let output = run(&["tail", "--from", "start", "--json", "--admin", &url]);
    assert_eq!(out(&output), "{\"offset\":1,\"type\":\"a\"}\n{\"offset\":2}\n");
    assert_eq!(code(&output), 0);
    assert_eq!(server.join().unwrap(), "GET /v1/changes?from=start HTTP/1.1");
}

#[test]
fn an_admin_url_is_http_and_excludes_a_file() {
    let output = run(&["tail", "--admin", "https://127.0.0.1:1"]);
    assert_eq!(code(&output), 2);
    assert_eq!(err(&output), "--admin: the admin API speaks http:// on loopback; reach it through a tunnel\n");
    assert_eq!(code(&run(&["tail", "--admin", "http://127.0.0.1:1", "--config", "x.toml"])), 2);
}

#[test]
fn completion_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completion", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        assert!(out(&output).contains("deadletter"), "{shell}");
    }
}

#[test]
fn simulate_says_where_the_models_are_and_takes_only_its_token_when_strict() {
    let (folder, _) =
        folder_with("headgate.toml", &file("http://127.0.0.1:9").replacen("127.0.0.1:0", "127.0.0.1:9", 1));
    let mut child = headgate(folder.path())
        .args(["simulate", "--hubspot", "127.0.0.1:0", "--salesforce", "127.0.0.1:0"])
        .args(["--hooks", "headgate.toml", "--strict-auth"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let models: Vec<&str> = ready.trim_end().split(' ').collect();
    assert!(
        matches!(models[..], ["ready", h, s] if h.starts_with("hubspot=http://127.0.0.1:") && s.starts_with("salesforce=http://127.0.0.1:")),
        "{ready}"
    );
    let address = models[1].trim_start_matches("hubspot=http://");
    for (token, expected) in [("token-1", "200"), ("other", "401")] {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /crm/v3/objects/contacts HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n").unwrap();
        let status = head(&mut stream);
        assert_eq!(status.split(' ').nth(1), Some(expected), "{token}: {status}");
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
