//! pagecast: arguments and environment in, exit code out.

use std::io::{self, Write};
use std::process::ExitCode;

use pagecast::cli::{self, CommandOutput};
use pagecast::config::{self, Action, LoadedConfig, ProcessInputs, SystemFileReader};

fn main() -> ExitCode {
    let given = ProcessInputs::to_the_process();
    match given.load(&SystemFileReader) {
        Ok(loaded) => perform(&loaded, given),
        Err(errors) => {
            // Where standard error is gone, the exit code still tells.
            let _ = writeln!(io::stderr(), "{errors}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

fn perform(loaded: &LoadedConfig, given: ProcessInputs) -> ExitCode {
    match &loaded.task {
        Action::Serve => pagecast::server::run::run(loaded, given),
        Action::ShowConfig => print(&config::show(loaded)),
        Action::Compress(asked) => tell(&cli::compress(&loaded.config, asked)),
        Action::Verify(asked) => tell(&cli::verify(&loaded.config, asked)),
        Action::Warm(asked) => tell(&cli::warm(&loaded.config, asked)),
        Action::Sign(asked) => tell(&cli::sign(&loaded.access.link_keys, asked)),
        Action::Print(text) => print(text),
    }
}

fn tell(outcome: &CommandOutput) -> ExitCode {
    let printed = print(&outcome.out);
    let _ = io::stderr().write_all(outcome.err.as_bytes());
    if outcome.is_clean { printed } else { ExitCode::from(EXIT_FINDINGS) }
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
