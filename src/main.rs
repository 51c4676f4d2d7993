//! Arguments, settings, run, exit code.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use uploader_v4::allocator;
use uploader_v4::cli::{self, Arguments, Command, Outcome};
use uploader_v4::config::{Config, ConfigSources};
use uploader_v4::moderation;

/// The process could not do what it was asked, or what it checked is not well.
const FAILED: u8 = 1;
/// Threads that wait for disks.
const BLOCKING_THREADS: usize = 32;
/// The settings cannot be used; clap ends so too when the arguments cannot be.
const MISCONFIGURED: u8 = 2;
/// Nothing was changed: no such thing, or its state does not allow it.
const REFUSED: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Serve = arguments.command
        && let Err(error) = allocator::set_up()
    {
        eprintln!("uploader-v4: goes on with the allocator as it is: {error}");
    }
    let (config, provenance) = match Config::load(ConfigSources::from_process(arguments.config.clone())) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("uploader-v4: {error}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("uploader-v4: the runtime cannot be made: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let system = actix_rt::System::with_tokio_rt(|| runtime);
    let (outcome, context) = system.block_on(async {
        (cli::run(arguments, config, provenance).await, tokio::runtime::Handle::current())
    });
    let code = exit_code(outcome);
    // What is still under way is dropped here. A connection that it holds goes back to its pool even then, for which it
    // needs the runtime's context.
    let _context = context.enter();
    drop(system);
    code
}

/// As the framework makes it, with few threads for work that blocks, so that one that has just made a chunk durable takes
/// up the next without falling asleep, and with a thread for the actors that falls asleep less often under load.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS).on_thread_park(moderation::pause).build()
}

fn exit_code(outcome: Result<Outcome, impl std::fmt::Display>) -> ExitCode {
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        // Nothing may hold the process now, not even a thread that waits for a disk.
        Ok(Outcome::Hurried) => std::process::exit(0),
        Ok(Outcome::Unwell) => ExitCode::from(FAILED),
        Ok(Outcome::Refused) => ExitCode::from(REFUSED),
        Err(error) => {
            eprintln!("uploader-v4: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
