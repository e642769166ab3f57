//! What cannot be done is said in one line, with what to do next, and shows in the exit code.

use std::fs;

use super::program::{Node, Place, complained, ports, run, said};

/// One line, this exit code, and these words in it.
fn ends(code: i32, args: &[&str], words: &[&str]) {
    let output = run(args);
    let complaint = complained(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {complaint}");
    assert_eq!(complaint.trim_end().lines().count(), 1, "{args:?}: {complaint}");
    for word in words {
        assert!(complaint.contains(word), "{args:?}: {word:?} is not in: {complaint}");
    }
}

/// It was understood, and cannot be done.
fn refuses(args: &[&str], words: &[&str]) {
    ends(1, args, words);
}

/// It cannot be meant.
fn misused(args: &[&str], words: &[&str]) {
    ends(2, args, words);
}

/// A node of a cluster of one, once it listens.
fn serve(id: &str, port: u16, data: &str, place: &Place) -> Node {
    let node = Node::serve(
        &["--id", id, "--peer", &format!("{id}=127.0.0.1:{port}"), "--data", data],
        &place.0.join("log"),
    );
    let status = run(&["status", "--at", &format!("127.0.0.1:{port}")]);
    assert!(status.status.success(), "{}", complained(&status));
    node
}

#[test]
fn a_node_that_cannot_serve_says_why_in_one_line() {
    let place = Place::new("refusals");
    let (port, data) = (ports(2), place.join("n0"));
    let own = format!("0=127.0.0.1:{port}");
    let mut node = serve("0", port, &data, &place);
    let other = place.join("n1");
    refuses(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &other],
        &["cannot listen on", &port.to_string(), "is another process using it?"],
    );
    // An address kept for documentation: no machine has it.
    refuses(
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
    let file = place.join("file");
    fs::write(&file, "").expect("a file");
    refuses(
        &[
            "serve",
            "--log",
            "off",
            "--id",
            "1",
            "--peer",
            &format!("1=127.0.0.1:{}", port + 1),
            "--data",
            &place.join("n2"),
            "--events",
            &file,
        ],
        &["cannot write the event log", &file],
    );
    refuses(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &data],
        &["in use by process", "--data"],
    );
    assert_eq!(node.terminate(), Some(0));

    let second = format!("1=127.0.0.1:{}", port + 1);
    refuses(
        &["serve", "--log", "off", "--id", "1", "--peer", &second, "--data", &data],
        &["belongs to n0", "not to n1"],
    );
    refuses(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--cluster", "other", "--data", &data],
        &["of cluster \"stormglass\"", "of \"other\""],
    );
    misused(
        &["serve", "--log", "off", "--id", "0", "--peer", &second, "--data", &data],
        &["has no n0", "--peer 0=HOST:PORT"],
    );
    let twice = [&own[..], &second, &own];
    let same = format!("1=127.0.0.1:{port}");
    for (peers, words) in [(&twice[..], "n0 is twice"), (&[&own, &same], "n0 and n1 are both at 127.0.0.1")] {
        let mut args = vec!["serve", "--log", "off", "--id", "0", "--data", &data];
        args.extend(peers.iter().flat_map(|peer| ["--peer", peer]));
        misused(&args, &[words]);
    }
    misused(&["serve", "--log", "off", "--peer", &second, "--data", &data], &["--id"]);
    misused(&["serve", "--log", "off", "--id", "1", "--peer", &second], &["--data"]);
    let shrinking = ["--retry-first-ms", "50", "--retry-max-ms", "40"];
    let args = ["serve", "--log", "off", "--id", "1", "--peer", &second, "--data", &data];
    misused(&[&args[..], &shrinking].concat(), &["shorter than the first"]);
    let newer = fs::read_to_string(place.0.join("n0/identity.json")).expect("a file");
    let newer = newer.replace("\"format\":1", "\"format\":9");
    fs::create_dir_all(place.0.join("n9")).expect("a directory");
    fs::write(place.0.join("n9/identity.json"), newer).expect("a file");
    refuses(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &place.join("n9")],
        &["has format 9", "run the version that wrote it"],
    );
    let strange = place.join("strange");
    fs::create_dir_all(&strange).expect("a directory");
    fs::write(place.0.join("strange/letter.txt"), "dear").expect("a file");
    refuses(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &strange],
        &["letter.txt", "empty"],
    );
}

#[test]
fn a_damaged_log_is_refused_and_a_torn_one_is_not() {
    let place = Place::new("damage");
    let (port, data) = (ports(1), place.join("n0"));
    let own = format!("0=127.0.0.1:{port}");
    let mut node = serve("0", port, &data, &place);
    for value in 1..=3 {
        let tx = run(&["tx", "--at", &format!("127.0.0.1:{port}"), &format!("put a={value} @0")]);
        assert!(tx.status.success(), "{}", complained(&tx));
    }
    assert_eq!(node.terminate(), Some(0));
    let verified = run(&["wal", "verify", &data]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));

    let wal = place.0.join("n0/wal.1");
    let whole = fs::read(&wal).expect("a log");
    fs::write(&wal, &whole[..whole.len() - 3]).expect("a shorter log");
    let torn = run(&["wal", "verify", &data]);
    assert_eq!(torn.status.code(), Some(5), "{}", said(&torn));
    let dump = run(&["wal", "dump", &data]);
    assert!(
        said(&dump).contains("Commit c") && said(&dump).contains("torn tail: wal.1 ends at byte"),
        "{}",
        said(&dump)
    );

    // In the first record: those behind it say that it was durable.
    let mut flipped = whole;
    flipped[60] ^= 1;
    fs::write(&wal, &flipped).expect("a damaged log");
    let damaged = run(&["wal", "verify", &data]);
    assert_eq!(damaged.status.code(), Some(6), "{}", said(&damaged));
    assert!(said(&damaged).contains("wal.1 is damaged at byte 44"), "{}", said(&damaged));
    refuses(
        &["serve", "--log", "off", "--id", "0", "--peer", &own, "--data", &data],
        &["wal.1 is damaged at byte 44", "stormglass wal verify"],
    );
    refuses(&["wal", "verify", &place.join("nowhere")], &["nowhere"]);
}

#[test]
fn a_file_of_settings_is_understood_or_its_line_is_told() {
    let place = Place::new("settings");
    let (port, file) = (ports(1), place.join("node.toml"));
    let good = format!("id = 0\ndata = {:?}\n[peers]\n0 = \"127.0.0.1:{port}\"\n", place.join("n0"));
    fs::write(&file, good.replace("id = 0", "id = \"zero\"")).expect("a file");
    misused(&["serve", "--log", "off", "--config", &file], &["node.toml, line 1"]);
    for (line, words) in [
        ("patience_s = 86401\n", ["patience_s is 86401", "86400"]),
        ("tuning.retry_max_ms = 100000000\n", ["100000000 ms", "a day"]),
        ("tuning.vote_timeout_ms = 0\n", ["0 ms", "from 1 ms"]),
    ] {
        fs::write(&file, line.to_owned() + &good).expect("a file");
        misused(&["serve", "--log", "off", "--config", &file], &words);
    }
    fs::write(&file, good.clone() + "[tuning]\nretry = 5\n").expect("a file");
    misused(&["serve", "--log", "off", "--config", &file], &["node.toml, line 6", "retry"]);
    let own = format!("0=127.0.0.1:{port}");
    fs::write(&file, good.clone() + &format!("n0 = \"127.0.0.1:{port}\"\n")).expect("a file");
    misused(&["serve", "--log", "off", "--config", &file], &["node.toml", "n0 is twice"]);
    for (line, words) in
        [("x = \"127.0.0.1:1\"\n", "\"x\" is no node"), ("1 = \"127.0.0.1\"\n", "expected HOST:PORT")]
    {
        fs::write(&file, good.clone() + line).expect("a file");
        misused(&["serve", "--log", "off", "--config", &file], &["node.toml, line 5", words]);
    }
    misused(&["serve", "--log", "off", "--config", &place.join("none.toml")], &["cannot read", "none.toml"]);
    fs::write(&file, good).expect("a file");
    misused(&["serve", "--log", "off", "--config", &file, "--peer", &own, "--peer", &own], &["n0 is twice"]);
    let mut node = Node::serve(&["--config", &file], &place.0.join("log"));
    let status = run(&["status", "--json", "--at", &format!("127.0.0.1:{port}")]);
    assert!(said(&status).starts_with("{\"node\":0,"), "{}{}", said(&status), complained(&status));
    assert_eq!(node.terminate(), Some(0));
}

/// A disk that fails from outside: no file may grow beyond 16 KiB (blocks of 512 bytes in `ulimit -f`), and the
/// signal that would end the process is ignored, so the write itself fails.
#[test]
fn a_write_that_fails_halts_the_node_and_it_starts_again() {
    let place = Place::new("full-disk");
    let (port, data) = (ports(1), place.join("n0"));
    let own = format!("0=127.0.0.1:{port}");
    let serve_it = format!(
        "trap '' XFSZ; ulimit -f 32; exec {} serve --log off --id 0 --peer {own} --data {data}",
        super::program::PROGRAM
    );
    let child =
        std::process::Command::new("sh").args(["-c", &serve_it]).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("a shell");
    let at = format!("127.0.0.1:{port}");
    let mut committed = 0;
    for value in 0..400 {
        let tx = run(&["tx", "--at", &at, "--patience-s", "1", &format!("put k{value}={value} @0")]);
        match tx.status.code() {
            Some(0) => committed += 1,
            _ => break,
        }
    }
    let ended = child.wait_with_output().expect("it has ended");
    let complaint = complained(&ended);
    assert_eq!(ended.status.code(), Some(1), "{complaint}");
    assert!(
        complaint.contains("n0 halted: a disk barrier failed") && complaint.contains("writing wal.1"),
        "{complaint}"
    );
    assert!((10..400).contains(&committed), "{committed}");
    let mut node = serve("0", port, &data, &place);
    for value in [0, committed - 1] {
        let get = run(&["get", "--at", &at, &format!("k{value}@0")]);
        assert_eq!(said(&get), format!("k{value} @0 = {value}\n"));
    }
    assert_eq!(node.terminate(), Some(0));
}

/// A number that no wait can be is wrong usage, and not a panic when it is added to the time.
#[test]
fn a_number_out_of_its_range_is_wrong_usage() {
    let most = u64::MAX.to_string();
    let at = ["--at", "127.0.0.1:1"];
    let cases: [(&[&str], &str); 14] = [
        (&["serve"], "--patience-s"),
        (&["serve"], "--vote-timeout-ms"),
        (&["serve"], "--retry-first-ms"),
        (&["serve"], "--retry-max-ms"),
        (&["tx", "put a=1 @0"], "--patience-s"),
        (&["tx", "put a=1 @0"], "--attempts"),
        (&["get", "a@0"], "--patience-s"),
        (&["outcome", "n0.1:c1.1/0"], "--patience-s"),
        (&["status"], "--patience-s"),
        (&["bench"], "--clients"),
        (&["bench"], "--seconds"),
        (&["campaign"], "--kills"),
        (&["campaign"], "--think-ms"),
        (&["fuzz"], "--connections"),
    ];
    for (command, flag) in cases {
        let client = matches!(command[0], "tx" | "get" | "outcome" | "status");
        let mut args = command.to_vec();
        args.extend(at.iter().filter(|_| client));
        args.extend([flag, &most]);
        let output = run(&args);
        let complaint = complained(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {complaint}");
        assert!(complaint.contains(flag) && complaint.contains(&most), "{args:?}: {complaint}");
    }
}

/// It would find that all is well.
#[test]
fn a_check_of_nothing_is_wrong_usage() {
    for args in [["fuzz", "--frames", "0"], ["campaign", "--kills", "0"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", complained(&output));
    }
}

#[test]
fn a_measurement_that_cannot_be_made_is_not_replaced_by_another() {
    misused(&["bench", "--nodes", "4", "--span", "9"], &["--span 9", "--nodes 4"]);
    let place = Place::new("bench");
    let file = place.join("file");
    fs::write(&file, "").expect("a file");
    refuses(&["bench", "--data", &file], &[&file]);
}

/// It would be taken for the name of something that logs, and all else would be silent.
#[test]
fn a_level_of_logging_that_is_none_is_wrong_usage() {
    let output = run(&["serve", "--log", "banana"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complained(&output).contains("\"banana\" is no level"), "{}", complained(&output));
}

#[test]
fn a_text_that_is_no_address_is_wrong_usage() {
    for at in ["127.0.0.1", "127.0.0.1:99999", ":3000"] {
        for command in [&["status"][..], &["tx", "put a=1 @0"], &["get", "a@0"]] {
            let output = run(&[command, &["--at", at]].concat());
            assert_eq!(output.status.code(), Some(2), "{at}");
            assert!(complained(&output).contains("expected HOST:PORT"), "{}", complained(&output));
        }
    }
}

/// Whoever asks for help finds a line to begin with.
#[test]
fn every_command_has_an_example_and_the_program_its_exit_codes() {
    for command in ["demo", "serve", "tx", "outcome", "get", "status", "wal", "bench", "campaign", "fuzz"] {
        let help = said(&run(&[command, "--help"]));
        assert!(help.contains("Example"), "{help}");
        assert!(help.contains(&format!("\n  stormglass {command}")), "{help}");
    }
    assert!(said(&run(&["--help"])).contains("Exit codes:"));
}
