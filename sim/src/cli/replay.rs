use std::io::Write;

use super::Exit;
use super::args::Replay;
use crate::protocol::{Protocol, drawn, world};
use crate::trace::{Filter, Trace};

/// Runs one seed with the trace on.
pub(super) fn run<P: Protocol>(args: &Replay) -> Exit {
    let drawn = drawn::<P>(&args.storm.setup(), args.seed);
    let plan = &drawn.plan;
    let header = format!(
        "stormglass {} seed {}{}\n{} nodes, {} clients, storm of {} ms; {}\n",
        env!("CARGO_PKG_VERSION"),
        args.seed,
        args.storm.typed(),
        plan.nodes,
        plan.clients,
        plan.storm_us / 1000,
        drawn.rates,
    );
    let span_us = Some((args.from_ms * 1000, args.to_ms.saturating_mul(1000)));
    let filter = Filter { node: args.node, request: args.request, span_us };
    let mut glass = world::<P, _, _>(drawn, |chooser| chooser, Trace::new(filter, args.json));
    let ending = glass.run();
    let trace = glass.judge().0.text();
    let (verdict, exit) = match &ending.broken {
        None => ("clean".to_string(), Exit::Clean),
        Some(broken) => (format!("BROKEN {broken}"), Exit::of(broken)),
    };
    let print = format!("{:016x}", ending.fingerprint);
    let text = if args.json {
        let head =
            serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "seed": args.seed, "options": header});
        let tail = serde_json::json!({"verdict": verdict, "fingerprint": print});
        format!("{head}\n{trace}{tail}\n")
    } else {
        format!("{header}{trace}{verdict}\nfingerprint {print}\n")
    };
    // A reader that has seen enough (`| head`) is no error.
    let _closed = std::io::stdout().write_all(text.as_bytes());
    exit
}
