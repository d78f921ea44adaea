//! pagecast: arguments and environment in, exit code out.
//!
//! The allocator is the system's. Decision: docs/decisions/046-allocator.md.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use pagecast::cli::{self, Action, CommandLine, CommandOutput};
use pagecast::config::{self, ConfigErrors, LoadedConfig, ProcessInputs, SystemFileReader};
use pagecast::sys::system_facts::system_facts;

fn main() -> ExitCode {
    perform(cli::read_command_line(env::args_os().skip(1))).unwrap_or_else(|errors| {
        // Where standard error is gone, the exit code still tells.
        let _ = writeln!(io::stderr(), "{errors}");
        ExitCode::from(EXIT_CONFIGURATION)
    })
}

fn perform(line: CommandLine) -> Result<ExitCode, ConfigErrors> {
    let CommandLine { action, layer, similar_command, errors } = line;
    let given = ProcessInputs {
        command_line: layer,
        similar_command,
        config_use: action.config_use(),
        variables: env::vars_os().collect(),
        facts: system_facts(),
    };
    let loaded = match action {
        Action::Print(_) => ConfigErrors::none_or(errors).map(|()| LoadedConfig::default()),
        _ => config::load(&given, errors, &SystemFileReader),
    }?;
    Ok(match &action {
        Action::Serve => pagecast::server::run::run(&loaded, given),
        Action::ShowConfig => print(&config::show(&loaded)),
        Action::Compress(arguments) => report(&cli::compress(&loaded.config, arguments)),
        Action::Verify(arguments) => report(&cli::verify(&loaded.config, arguments)),
        Action::Warm(arguments) => report(&cli::warm(&loaded.config, arguments)),
        Action::Sign(arguments) => report(&cli::sign(&loaded.access.link_keys, arguments)),
        Action::Print(text) => print(text),
    })
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
