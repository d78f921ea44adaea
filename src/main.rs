//! pagecast: arguments and environment in, exit code out.
//!
//! The allocator is the system's. Decision: docs/decisions/046-allocator.md.

use std::io::{self, Write};
use std::process::ExitCode;

use pagecast::cli::{self, CommandOutput};
use pagecast::config::{self, Action, LoadedConfig, ProcessInputs, SystemFileReader};

fn main() -> ExitCode {
    let given = ProcessInputs::to_the_process();
    match given.load(&SystemFileReader) {
        Ok(loaded) => perform(&loaded, given),
        Err(errors) => {
            // Where standard error is gone, the exit code still says it.
            let _ = writeln!(io::stderr(), "{errors}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

fn perform(loaded: &LoadedConfig, given: ProcessInputs) -> ExitCode {
    match &loaded.task {
        Action::Serve => pagecast::server::run::run(loaded, given),
        Action::ShowConfig => print(&config::show(loaded)),
        Action::Compress(arguments) => report(&cli::compress(&loaded.config, arguments)),
        Action::Verify(arguments) => report(&cli::verify(&loaded.config, arguments)),
        Action::Warm(arguments) => report(&cli::warm(&loaded.config, arguments)),
        Action::Sign(arguments) => report(&cli::sign(&loaded.access.link_keys, arguments)),
        Action::Print(text) => print(text),
    }
}

fn report(output: &CommandOutput) -> ExitCode {
    let printed = print(&output.out);
    let _ = io::stderr().write_all(output.err.as_bytes());
    if output.is_clean { printed } else { ExitCode::from(EXIT_FINDINGS) }
}

/// Prints to standard output. A reader that leaves early (`| head -1`) has what it wanted.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pagecast: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

const EXIT_FINDINGS: u8 = 1;
const EXIT_CONFIGURATION: u8 = 2;
