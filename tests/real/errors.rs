//! Errors take one line, with what to do next, and show in the exit code.

use std::fs;

use super::program::{Node, TestDir, ports, run, stderr_text, stdout_text};

/// Asserts one line, this exit code, and these words in it.
fn assert_exit(code: i32, args: &[&str], expected: &[&str]) {
    let output = run(args);
    let stderr = stderr_text(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{args:?}: {stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{args:?}: {text:?} is not in: {stderr}");
    }
}

/// The command is valid, and cannot be executed.
fn assert_runtime_error(args: &[&str], expected: &[&str]) {
    assert_exit(1, args, expected);
}

/// The command is invalid.
fn assert_usage_error(args: &[&str], expected: &[&str]) {
    assert_exit(2, args, expected);
}

/// A node of a cluster of one, once it listens.
fn serve(id: &str, port: u16, data: &str, dir: &TestDir) -> Node {
    let node = Node::serve(
        &["--id", id, "--peer", &format!("{id}=127.0.0.1:{port}"), "--data", data],
        &dir.0.join("log"),
    );
    let status = run(&["status", "--at", &format!("127.0.0.1:{port}")]);
    assert!(status.status.success(), "{}", stderr_text(&status));
    node
}

#[test]
fn serve_error_is_one_line_with_its_cause() {
    let dir = TestDir::new("refusals");
    let port = ports(2);
    let data = dir.join("n0");
    let own = format!("0=127.0.0.1:{port}");
    let mut node = serve("0", port, &data, &dir);
    let other = dir.join("n1");
    assert_runtime_error(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &other],
        &["cannot listen on", &port.to_string(), "is another process using it?"],
    );
    // An address reserved for documentation: no machine has it.
    assert_runtime_error(
        &[
            "serve",
            "--log",
            "off",
            "--id",
            "0",
            "--peer",
            &own,
            "--data",
            &other,
            "--listen",
            "192.0.2.1:3000",
        ],
        &["cannot listen on 192.0.2.1:3000", "choose an address of this machine"],
    );
    let file = dir.join("file");
    fs::write(&file, "").expect("a file");
    assert_runtime_error(
        &[
            "serve",
            "--log",
            "off",
            "--id",
            "1",
            "--peer",
            &format!("1=127.0.0.1:{}", port + 1),
            "--data",
            &dir.join("n2"),
            "--events",
            &file,
        ],
        &["cannot write the event log", &file],
    );
    assert_runtime_error(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &data],
        &["in use by process", "--data"],
    );
    assert_eq!(node.terminate(), Some(0));

    let second = format!("1=127.0.0.1:{}", port + 1);
    assert_runtime_error(
        &["serve", "--log", "off", "--id", "1", "--peer", &second, "--data", &data],
        &["belongs to n0", "not to n1"],
    );
    assert_runtime_error(
        &[
            "serve",
            "--log",
            "off",
            "--id",
            "0",
            "--peer",
            &own,
            "--cluster",
            "other",
            "--data",
            &data,
        ],
        &["of cluster \"stormglass\"", "of \"other\""],
    );
    assert_usage_error(
        &["serve", "--log", "off", "--id", "0", "--peer", &second, "--data", &data],
        &["has no n0", "--peer 0=HOST:PORT"],
    );
    let twice = [&own[..], &second, &own];
    let same = format!("1=127.0.0.1:{port}");
    for (peers, expected) in
        [(&twice[..], "n0 appears twice"), (&[&own, &same], "n0 and n1 are both at 127.0.0.1")]
    {
        let mut args = vec!["serve", "--log", "off", "--id", "0", "--data", &data];
        args.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
        assert_usage_error(&args, &[expected]);
    }
    assert_usage_error(&["serve", "--log", "off", "--peer", &second, "--data", &data], &["--id"]);
    assert_usage_error(&["serve", "--log", "off", "--id", "1", "--peer", &second], &["--data"]);
    let shrinking = ["--retry-first-ms", "50", "--retry-max-ms", "40"];
    let args = ["serve", "--log", "off", "--id", "1", "--peer", &second, "--data", &data];
    assert_usage_error(&[&args[..], &shrinking].concat(), &["shorter than the first"]);
    let newer = fs::read_to_string(dir.0.join("n0/identity.json")).expect("a file");
    let newer = newer.replace("\"format\":1", "\"format\":9");
    fs::create_dir_all(dir.0.join("n9")).expect("a directory");
    fs::write(dir.0.join("n9/identity.json"), newer).expect("a file");
    assert_runtime_error(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &dir.join("n9")],
        &["has format 9", "run the version that wrote it"],
    );
    let strange = dir.join("strange");
    fs::create_dir_all(&strange).expect("a directory");
    fs::write(dir.0.join("strange/letter.txt"), "dear").expect("a file");
    assert_runtime_error(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &strange],
        &["letter.txt", "empty"],
    );
}

#[test]
fn damaged_log_prevents_boot_and_a_torn_tail_does_not() {
    let dir = TestDir::new("damage");
    let port = ports(1);
    let data = dir.join("n0");
    let own = format!("0=127.0.0.1:{port}");
    let mut node = serve("0", port, &data, &dir);
    for value in 1..=3 {
        let tx = run(&["tx", "--at", &format!("127.0.0.1:{port}"), &format!("put a={value} @0")]);
        assert!(tx.status.success(), "{}", stderr_text(&tx));
    }
    assert_eq!(node.terminate(), Some(0));
    let verified = run(&["wal", "verify", &data]);
    assert_eq!(verified.status.code(), Some(0), "{}", stdout_text(&verified));

    let wal = dir.0.join("n0/wal.1");
    let whole = fs::read(&wal).expect("a log");
    // Within the last record: nothing after it proves that it was durable.
    fs::write(&wal, &whole[..whole.len() - 3]).expect("a shorter log");
    let torn = run(&["wal", "verify", &data]);
    assert_eq!(torn.status.code(), Some(5), "{}", stdout_text(&torn));
    let dump = run(&["wal", "dump", &data]);
    assert!(
        stdout_text(&dump).contains("Commit c")
            && stdout_text(&dump).contains("torn tail: wal.1 ends at byte"),
        "{}",
        stdout_text(&dump)
    );

    // In the first record: those after it prove that it was durable.
    let mut flipped = whole;
    flipped[60] ^= 1;
    fs::write(&wal, &flipped).expect("a damaged log");
    let damaged = run(&["wal", "verify", &data]);
    assert_eq!(damaged.status.code(), Some(6), "{}", stdout_text(&damaged));
    assert!(
        stdout_text(&damaged).contains("wal.1 is damaged at byte 44"),
        "{}",
        stdout_text(&damaged)
    );
    assert_runtime_error(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &data],
        &["wal.1 is damaged at byte 44", "stormglass wal verify"],
    );
    assert_runtime_error(&["wal", "verify", &dir.join("nowhere")], &["nowhere"]);
}

#[test]
fn config_file_errors_name_the_line() {
    let dir = TestDir::new("settings");
    let port = ports(1);
    let file = dir.join("node.toml");
    let good = format!("id = 0\ndata = {:?}\n[peers]\n0 = \"127.0.0.1:{port}\"\n", dir.join("n0"));
    fs::write(&file, good.replace("id = 0", "id = \"zero\"")).expect("a file");
    assert_usage_error(&["serve", "--log", "off", "--config", &file], &["node.toml, line 1"]);
    for (line, expected) in [
        ("patience_s = 86401\n", ["patience_s is 86401", "86400"]),
        ("tuning.retry_max_ms = 100000000\n", ["100000000 ms", "a day"]),
        ("tuning.vote_timeout_ms = 0\n", ["0 ms", "from 1 ms"]),
    ] {
        fs::write(&file, line.to_owned() + &good).expect("a file");
        assert_usage_error(&["serve", "--log", "off", "--config", &file], &expected);
    }
    fs::write(&file, good.clone() + "[tuning]\nretry = 5\n").expect("a file");
    assert_usage_error(
        &["serve", "--log", "off", "--config", &file],
        &["node.toml, line 6", "retry"],
    );
    let own = format!("0=127.0.0.1:{port}");
    fs::write(&file, good.clone() + &format!("n0 = \"127.0.0.1:{port}\"\n")).expect("a file");
    assert_usage_error(
        &["serve", "--log", "off", "--config", &file],
        &["node.toml", "n0 appears twice"],
    );
    for (line, expected) in [
        ("x = \"127.0.0.1:1\"\n", "\"x\" is not a node id"),
        ("1 = \"127.0.0.1\"\n", "expected HOST:PORT"),
    ] {
        fs::write(&file, good.clone() + line).expect("a file");
        assert_usage_error(
            &["serve", "--log", "off", "--config", &file],
            &["node.toml, line 5", expected],
        );
    }
    assert_usage_error(
        &["serve", "--log", "off", "--config", &dir.join("none.toml")],
        &["cannot read", "none.toml"],
    );
    fs::write(&file, good).expect("a file");
    assert_usage_error(
        &["serve", "--log", "off", "--config", &file, "--peer", &own, "--peer", &own],
        &["n0 appears twice"],
    );
    let mut node = Node::serve(&["--config", &file], &dir.0.join("log"));
    let status = run(&["status", "--json", "--at", &format!("127.0.0.1:{port}")]);
    assert!(
        stdout_text(&status).starts_with("{\"node\":0,"),
        "{}{}",
        stdout_text(&status),
        stderr_text(&status)
    );
    assert_eq!(node.terminate(), Some(0));
}

/// A disk that fails from outside: no file may grow beyond 16 KiB (blocks of 512 bytes in
/// `ulimit -f`), and the signal that would end the process is ignored, so the write itself fails.
#[test]
fn failed_write_halts_the_node_and_it_restarts() {
    let dir = TestDir::new("full-disk");
    let port = ports(1);
    let data = dir.join("n0");
    let own = format!("0=127.0.0.1:{port}");
    let serve_command = format!(
        "trap '' XFSZ; ulimit -f 32; exec {} serve --log off --id 0 --peer {own} --data {data}",
        super::program::PROGRAM
    );
    let child = std::process::Command::new("sh")
        .args(["-c", &serve_command])
        .stderr(std::process::Stdio::piped())
        .spawn();
    let child = child.expect("a shell");
    let at = format!("127.0.0.1:{port}");
    let mut committed = 0;
    for value in 0..400 {
        // A second of patience, since the transaction at which the node halts is never answered.
        let tx =
            run(&["tx", "--at", &at, "--patience-s", "1", &format!("put k{value}={value} @0")]);
        match tx.status.code() {
            Some(0) => committed += 1,
            _ => break,
        }
    }
    let ended = child.wait_with_output().expect("it has ended");
    let stderr = stderr_text(&ended);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("n0 halted: a disk barrier failed") && stderr.contains("writing wal.1"),
        "{stderr}"
    );
    // 16 KiB hold some transactions, and not all 400.
    assert!((10..400).contains(&committed), "{committed}");
    // Without the limit. Every commit that was answered must be there.
    let mut node = serve("0", port, &data, &dir);
    for value in [0, committed - 1] {
        let get = run(&["get", "--at", &at, &format!("k{value}@0")]);
        assert_eq!(stdout_text(&get), format!("k{value} @0 = {value}\n"));
    }
    assert_eq!(node.terminate(), Some(0));
}

/// An excessive duration is wrong usage, and not a panic when it is added to the time.
#[test]
fn number_out_of_range_is_a_usage_error() {
    let max = u64::MAX.to_string();
    let at = ["--at", "127.0.0.1:1"];
    let cases: [(&[&str], &str); 9] = [
        (&["serve"], "--patience-s"),
        (&["serve"], "--vote-timeout-ms"),
        (&["serve"], "--retry-first-ms"),
        (&["serve"], "--retry-max-ms"),
        (&["tx", "put a=1 @0"], "--patience-s"),
        (&["tx", "put a=1 @0"], "--attempts"),
        (&["get", "a@0"], "--patience-s"),
        (&["outcome", "n0.1:c1.1/0"], "--patience-s"),
        (&["status"], "--patience-s"),
    ];
    for (command, flag) in cases {
        let client = matches!(command[0], "tx" | "get" | "outcome" | "status");
        let mut args = command.to_vec();
        args.extend(at.iter().filter(|_| client));
        args.extend([flag, &max]);
        let output = run(&args);
        let stderr = stderr_text(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(flag) && stderr.contains(&max), "{args:?}: {stderr}");
    }
}

/// The word would be taken for a module name, and all other messages would be suppressed.
#[test]
fn unknown_log_level_is_a_usage_error() {
    let output = run(&["serve", "--log", "banana"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_text(&output).contains("\"banana\" is not a level"), "{}", stderr_text(&output));
}

#[test]
fn invalid_address_is_a_usage_error() {
    for at in ["127.0.0.1", "127.0.0.1:99999", ":3000"] {
        for command in [&["status"][..], &["tx", "put a=1 @0"], &["get", "a@0"]] {
            let output = run(&[command, &["--at", at]].concat());
            assert_eq!(output.status.code(), Some(2), "{at}");
            assert!(
                stderr_text(&output).contains("expected HOST:PORT"),
                "{}",
                stderr_text(&output)
            );
        }
    }
}

/// Every help text has an example.
#[test]
fn help_has_an_example_per_command_and_lists_the_exit_codes() {
    for command in ["demo", "serve", "tx", "outcome", "get", "status", "wal"] {
        let help = stdout_text(&run(&[command, "--help"]));
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("\n  stormglass {command}")), "{help}");
    }
    assert!(stdout_text(&run(&["--help"])).contains("Exit codes:"));
}
