//! What: from arguments to an exit code.
//! Why here: parsing, logging, error reports and exit codes are the same for all commands.
//! Pre: none.
//! Post: results on stdout, everything else on stderr; with `--format json` stdout holds exactly one JSON object, also
//! when something fails. A panic is reported as a bug of ours, with exit code 70.

mod args;
mod commands;
mod report;
mod ui;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tilewright::Error;
use tilewright::toolchain::{Environment, from_env};

use args::{Cli, Command, Format};
use ui::Ui;

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let environment = from_env();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ui = Ui::new(cli.format, environment.no_color);
    start_logging(environment.log.as_deref(), &ui);
    let outcome = catch_unwind(AssertUnwindSafe(|| dispatch(&cli.command, &ui, &environment)));
    let result = outcome.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic".to_owned());
        Err(Error::Bug(text))
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::print(&ui, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(command: &Command, ui: &Ui, environment: &Environment) -> Result<u8, Error> {
    let toolchain = &environment.toolchain;
    if ui.html() && !matches!(command, Command::Explain(_)) {
        return Err(Error::Usage("`--format html` is for `explain`".into()));
    }
    match command {
        Command::Demo(args) => commands::demo::run(args, ui, toolchain)?,
        Command::Setup(args) => commands::setup::run(args, ui, toolchain)?,
        Command::Doctor => return commands::doctor::run(ui, toolchain),
        Command::Compile(args) => commands::compile::run(args, ui, toolchain)?,
        Command::Run(args) => commands::run::run(args, ui, toolchain)?,
        Command::Score(args) => commands::score::run(args, ui, toolchain)?,
        Command::Explain(args) => commands::explain::run(args, ui, toolchain)?,
        Command::Verify(args) => commands::verify::run(args, ui, toolchain)?,
        Command::Profile(args) => commands::profile::run(args, ui, toolchain)?,
        Command::Check(args) => return commands::check::run(args, ui, toolchain),
        Command::Jit(args) => commands::jit::run(args, ui, toolchain)?,
        Command::Laws => commands::laws::run(ui),
        Command::Opt(args) => commands::opt::run(args, ui)?,
        Command::Emulate(args) => return commands::emulate::run(args, ui),
        Command::Selftest(args) => commands::selftest::run(args, ui, toolchain)?,
        Command::Calibrate(args) => commands::calibrate::run(args, ui, toolchain)?,
        Command::Bench(args) => return commands::bench::run(args, ui, toolchain),
    }
    Ok(0)
}

/// Help, the version, or a wrong call.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed terminal.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => {
            // The arguments were not understood, so this looks at them as they are.
            let args: Vec<String> = std::env::args().collect();
            let json = args.iter().any(|a| a == "--format=json")
                || args.windows(2).any(|w| w[0] == "--format" && w[1] == "json");
            if json {
                let text = error.render().to_string();
                let message = text.trim().trim_start_matches("error: ").to_owned();
                report::print_json(&Ui::new(Format::Json, true), &Error::Usage(message));
            }
            ExitCode::from(Error::Usage(String::new()).exit_code())
        }
    }
}

/// Log messages go to stderr when a filter is set.
fn start_logging(filter: Option<&str>, ui: &Ui) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let Some(filter) = filter else { return };
    match filter.parse::<Targets>() {
        Ok(targets) => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ui.color());
            tracing_subscriber::registry().with(layer).with(targets).init();
        }
        Err(error) => ui.note(&format!("TILEWRIGHT_LOG=`{filter}` is not understood: {error}")),
    }
}
