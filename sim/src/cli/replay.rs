use std::io::Write;

use super::args::Replay;
use super::{Exit, usage};
use crate::protocol::{Protocol, drawn, world};
use crate::trace::{Filter, Trace};

/// Runs one seed with the trace on.
pub(super) fn run<P: Protocol>(args: &Replay) -> Exit {
    let drawn = drawn::<P>(&args.storm.setup(), args.seed);
    let plan = &drawn.plan;
    if let Some(node) = args.node.filter(|node| node.0 >= plan.nodes) {
        return usage::refuse(format_args!(
            "there is no {node}: seed {} has {} nodes",
            args.seed, plan.nodes
        ));
    }
    if let Some(request) = args.request.filter(|request| request.client > plan.clients || request.client == 0)
    {
        let (seed, clients) = (args.seed, plan.clients);
        return usage::refuse(format_args!(
            "there is no {request}: seed {seed} has clients c1 to c{clients}"
        ));
    }
    if args.from_ms > args.to_ms {
        let (from, to) = (args.from_ms, args.to_ms);
        return usage::refuse(format_args!(
            "--from-ms {from} is after --to-ms {to}: nothing would be printed"
        ));
    }
    let header = format!(
        "stormglass {} seed {}{}\n{} nodes, {} clients, storm of {} ms; {}\n",
        env!("CARGO_PKG_VERSION"),
        args.seed,
        args.storm.setup().typed(),
        plan.nodes,
        plan.clients,
        plan.storm_us / 1000,
        drawn.rates,
    );
    let span_us = Some((args.from_ms * 1000, args.to_ms * 1000));
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
