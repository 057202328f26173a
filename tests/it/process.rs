//! The binary: what it says when it is told something wrong, and how it takes signals.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "listen: 127.0.0.1:0
admin: 127.0.0.1:0
upstreams:
  openai: { dialect: openai, url: http://127.0.0.1:9, api_key_env: PROCESS_TEST_KEY }
policies: { dir: policies, active: test }
";
const POLICY: &str = "constitution: { preamble: Be kind. }\nrules: [{ id: mail, guard: { entities: [EMAIL_ADDRESS] }, stages: [input], action: block }]\n";

struct Place(tempfile::TempDir);

impl Place {
    fn with(config: &str, policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("wardline.yaml"), config).unwrap();
        std::fs::write(dir.path().join("policies/test.yaml"), policy).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
        command.arg(subcommand).arg("--config").arg(self.path("wardline.yaml"));
        command.env("PROCESS_TEST_KEY", "k").env("ORT_DISABLE_TELEMETRY", "1").env_remove("RUST_LOG");
        command
    }

    fn refused(&self, subcommand: &str) -> String {
        let Output { status, stdout, stderr } = self.command(subcommand).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(64), "{text}");
        assert!(stdout.is_empty() && text.lines().any(|line| line.starts_with("error: ")), "{text}");
        text
    }
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[test]
fn mistakes_are_told_with_their_place_and_nothing_starts() {
    let edits: [(&str, &str, &[&str]); 11] = [
        ("admin:", "admn:", &["wardline.yaml:2:1", "unknown field `admn`", "did you mean `admin`?", "^^^^"]),
        ("listen: 127.0.0.1:0", "listen: [1]", &["wardline.yaml:1:9", "listen"]),
        ("listen: 127.0.0.1:0", "listen: here", &["wardline.yaml:1:9", "listen", "e.g. 127.0.0.1:8787"]),
        ("admin: 127.0.0.1:0", "admin: 256.0.0.1:1", &["wardline.yaml:2:8", "admin", "with a port"]),
        ("admin: 127.0.0.1:0", "admin: 192.0.2.1:1", &["wardline.yaml:2:8: admin: cannot listen", "^^^^"]),
        ("openai, url", "opnai, url", &["wardline.yaml:4:", "`opnai`", "did you mean `openai`?"]),
        ("http://127.0.0.1:9", "127.0.0.1", &["wardline.yaml:4:35: upstreams.openai.url", "http or https", "^^^^"]),
        (
            "PROCESS_TEST_KEY",
            "PROCESS_TEST_NO_KEY",
            &["wardline.yaml:4:68: upstreams.openai.api_key_env", "PROCESS_TEST_NO_KEY is not set", "export", "^^^^"],
        ),
        (
            ", api_key_env: PROCESS_TEST_KEY",
            "",
            &["wardline.yaml:4:3: upstreams.openai", "api_key_env", "forward_client_key"],
        ),
        (
            "active: test",
            "active: tset",
            &["wardline.yaml:5:36: policies.active", "no policy `tset`", "did you mean `test`?"],
        ),
        (
            "policies: {",
            "classifier: { dir: nowhere }\npolicies: {",
            &["wardline.yaml:5:20: classifier.dir", "nowhere", "manifest.json", "make models"],
        ),
    ];
    for (from, to, words) in edits {
        let place = Place::with(&CONFIG.replacen(from, to, 1), POLICY);
        // `check` opens no port, so it cannot know of an address that is not ours.
        let subcommands = if to.contains("192.0.2.1") { &["serve"][..] } else { &["check", "serve"] };
        for subcommand in subcommands {
            says(&place.refused(subcommand), words);
        }
    }
    let place = Place::with(CONFIG, &POLICY.replace("action:", "acton:"));
    says(&place.refused("serve"), &["test.yaml:2:", "rules[0]", "unknown field `acton`", "did you mean `action`?"]);
    let place = Place::with(CONFIG, POLICY);
    std::fs::remove_file(place.path("wardline.yaml")).unwrap();
    says(&place.refused("serve"), &["wardline.yaml", "No such file", "--config FILE"]);
}

#[test]
fn a_runtime_library_that_is_missing_is_told_with_what_to_run() {
    let config = format!(
        "{CONFIG}classifier: {{ dir: {}/models/guard, runtime: nowhere/libonnxruntime.so }}\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let place = Place::with(&config, POLICY);
    says(&place.refused("serve"), &["nowhere/libonnxruntime.so", "make ort", "ORT_DYLIB_PATH"]);
}

#[test]
fn a_taken_port_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::with(&CONFIG.replacen("127.0.0.1:0", &address, 1), POLICY);
    says(&place.refused("serve"), &["listen", &address, "in use"]);
}

#[test]
fn resolve_says_who_gets_which_policy_and_where_it_is_written() {
    let config = CONFIG.replace(
        "active: test }",
        "active: test, select: [{ tenants: [acme], policy: team }, { headers: { x-tone: [dry] }, policy: team }, \
         { keys: [2bb80d537b1da3e3], policy: team }] }\ntenants: { known: { acme: {} }, header: x-tenant }",
    );
    let place = Place::with(&config, POLICY);
    std::fs::write(place.path("policies/team.yaml"), "extends: test.yaml\nrespond: { message: Not here. }\n").unwrap();
    let resolve = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
        command.args(["policy", "resolve", "--config"]).arg(place.path("wardline.yaml")).args(arguments);
        let Output { status, stdout, stderr } = command.env("ORT_DISABLE_TELEMETRY", "1").output().unwrap();
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        (status.code(), text.replace(&format!("{}/", place.0.path().display()), ""))
    };
    let (code, text) = resolve(&[]);
    let revision = text.split(' ').nth(2).unwrap().trim_end_matches(',').to_owned();
    let expected =
        format!("test rev {revision}, chosen by policies.active\npolicies/test.yaml\n  mail block (enforce)\n");
    assert_eq!((code, text), (Some(0), expected));
    for (arguments, line) in [
        (&["--tenant", "acme"][..], 0),
        (&["--header", "x-tenant=acme"], 0),
        (&["--header", "x-tone=dry"], 1),
        (&["--key", "secret"], 2),
        (&["--key-hash", "2bb80d537b1da3e38b"], 2),
    ] {
        let (code, text) = resolve(arguments);
        let chosen = format!("chosen by policies.select[{line}]\npolicies/team.yaml\n");
        let inherits = "extends policies/test.yaml\n  mail block (enforce)\n";
        assert!(code == Some(0) && text.starts_with("team rev "), "{arguments:?}: {text}");
        assert!(text.contains(&chosen) && text.ends_with(inherits), "{arguments:?}: {text}");
        assert_eq!(text.contains("\ntenant acme\n"), line == 0, "{arguments:?}: {text}");
    }
    let (_, text) = resolve(&["--tenant", "acme", "--full"]);
    let (_, whole) = text.split_once("\n\n").unwrap();
    let comments: Vec<&str> = whole.lines().map(|line| line.rsplit_once("  # ").unwrap().1).collect();
    assert_eq!(comments, ["policies/test.yaml:1", "policies/test.yaml:2", "policies/team.yaml:2"], "{whole}");
    let (code, text) = resolve(&["--tenant", "acma"]);
    says(&text, &["tenants.known: unknown tenant `acma`", "did you mean `acme`?"]);
    assert_eq!(code, Some(64));
}

#[test]
fn check_says_what_it_found() {
    let place = Place::with(CONFIG, POLICY);
    let Output { status, stdout, .. } = place.command("check").output().unwrap();
    assert!(status.success());
    says(&String::from_utf8(stdout).unwrap(), &["wardline.yaml: ok. Policy test rev ", "1 rules", "1 upstreams"]);
}

#[test]
fn policies_bring_their_own_tests() {
    let tests = "tests:\n  - { name: an address is refused, text: Mail a@example.com, expect: { action: block } }\n";
    let place = Place::with(CONFIG, &format!("{POLICY}{tests}"));
    let report = place.path("report.xml");
    let run = |policy: &str, arguments: &[&str]| {
        let mut command = place.command("test");
        let Output { status, stdout, stderr } = command.arg(policy).args(arguments).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    };
    let (code, told, _) = run("test", &["--junit", report.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    says(&told, &["policies/test.yaml  test rev ", "  ok    an address is refused", "1 passed, 0 failed"]);
    says(
        &std::fs::read_to_string(&report).unwrap(),
        &["<testsuite name=\"test\" tests=\"1\" failures=\"0\"", "line=\"4\""],
    );

    let broken = place.path("policies/test.yaml");
    std::fs::write(&broken, format!("{POLICY}{}", tests.replace("a@example", "example"))).unwrap();
    let (code, told, error) = run(broken.to_str().unwrap(), &["--junit", report.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{told}");
    says(&told, &["  FAIL  an address is refused", "test.yaml:4: expected block; got allow", "0 passed, 1 failed"]);
    says(&error, &["error: 1 test failed"]);
    says(&std::fs::read_to_string(&report).unwrap(), &["<failure message=\"expected block; got allow\"/>"]);
    for subcommand in ["check", "serve"] {
        says(&place.refused(subcommand), &["test.yaml:4:5: tests[0]: test `an address is refused` failed", " ^"]);
    }
    let Output { status, stdout, .. } = place.command("check").arg("test").output().unwrap();
    assert!(status.success(), "a check of a file runs no tests");
    says(&String::from_utf8(stdout).unwrap(), &["test.yaml: ok. Policy test rev ", "1 tests not run"]);
    let (code, _, error) = run("tset", &[]);
    assert_eq!(code, Some(64));
    says(&error, &["tset.yaml", "No such file"]);
}

#[test]
fn lines_that_choose_a_policy_are_checked_and_can_be_asked() {
    let select = |line: &str| CONFIG.replace("active: test }", &format!("active: test, select: [{{ {line} }}] }}"));
    for (line, words) in [
        ("policy: tset, models: [m]", &["wardline.yaml:5:", "policies.select[0].policy", "did you mean `test`?"][..]),
        ("policy: test", &["policies.select[0].policy", "`active`"]),
        ("policy: test, routes: [chats]", &["policies.select[0].routes", "did you mean `chat`?"]),
        ("policy: test, keys: [sk-live]", &["policies.select[0].keys", "16 to 64 lower-case hex digits"]),
        ("policy: test, model: [m]", &["wardline.yaml:5:", "unknown field `model`", "did you mean `models`?"]),
    ] {
        says(&Place::with(&select(line), POLICY).refused("check"), words);
    }
    let place = Place::with(&select("policy: other, models: ['big-*']"), POLICY);
    std::fs::write(place.path("policies/other.yaml"), "rules: []\n").unwrap();
    let resolve = |model: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
        command.args(["policy", "resolve", "--model", model, "--config"]).arg(place.path("wardline.yaml"));
        let Output { status, stdout, stderr } = command.env("ORT_DISABLE_TELEMETRY", "1").output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    };
    says(&resolve("big-1"), &["other rev ", "chosen by policies.select[0]", "policies/other.yaml"]);
    says(&resolve("small"), &["test rev ", "chosen by policies.active", "  mail block (enforce)"]);
}

#[test]
fn serve_reloads_on_sighup_and_ends_well_on_sigterm() {
    let place = Place::with(CONFIG, POLICY);
    let mut child = place.command("serve").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving = lines.by_ref().map(Result::unwrap).find(|line| line.contains("serving")).unwrap();
    let address = |key: &str| {
        let rest = serving.split_once(&format!("{key}=")).unwrap().1;
        rest.split_whitespace().next().unwrap().parse::<SocketAddr>().unwrap()
    };
    let (data, admin) = (address("listen"), address("admin"));
    let health = |admin: SocketAddr| {
        Command::new(env!("CARGO_BIN_EXE_wardline")).args(["health", "--admin", &admin.to_string()]).output().unwrap()
    };
    assert!(health(admin).status.success());
    let before = revision(admin);
    // The watch would find this too; the signal is what is quick.
    std::fs::write(place.path("policies/test.yaml"), POLICY.replace("Be kind.", "Be brief.")).unwrap();
    signal(&child, "HUP");
    let started = Instant::now();
    while revision(admin) == before {
        assert!(started.elapsed() < Duration::from_secs(5), "no reload");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "TERM");
    assert!(wait(&mut child).success());
    assert!(TcpStream::connect(data).is_err());
    assert_eq!(health(admin).status.code(), Some(1));
}

fn revision(admin: SocketAddr) -> String {
    use std::io::Write;
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str::<serde_json::Value>(body).unwrap()["policy"]["revision"].as_str().unwrap().to_owned()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_shipped_configuration_and_policies_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wardline"));
    command.arg("check").arg("--config").arg(root.join("wardline.yaml")).current_dir(root);
    command.env("OPENAI_API_KEY", "k").env("ANTHROPIC_API_KEY", "k").env("ORT_DISABLE_TELEMETRY", "1");
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
}
