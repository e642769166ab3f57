//! Schedule files: any text is read or refused with an error, and a schedule that was read is
//! written to a text that reads as the same schedule.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stormglass_commit_sim::Commit;
use stormglass_sim::schedule::Schedule;

fuzz_target!(|text: &str| {
    if let Ok(schedule) = Schedule::read(&Commit, text) {
        let written = schedule.write(&Commit);
        let again = Schedule::read(&Commit, &written).expect("its own text");
        assert_eq!(again.write(&Commit), written);
    }
});
