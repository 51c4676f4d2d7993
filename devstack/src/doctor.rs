//! `devstack doctor`: what is found, what is missing, what to do about it.

use std::process::ExitCode;

use devstack::tools::{ALL, advice, apt, missing};

pub(crate) fn run() -> ExitCode {
    for tool in ALL {
        for program in tool.programs() {
            match tool.program(program) {
                Ok(path) => println!("{:<11} {program:<16} {}", tool.name(), path.display()),
                Err(_) => println!("{:<11} {program:<16} missing", tool.name()),
            }
        }
    }
    let missing = missing(&ALL);
    if missing.is_empty() {
        println!("everything is there");
        return ExitCode::SUCCESS;
    }
    if apt::is_usable() {
        println!(
            "`devstack exec` and `devstack demo` will install what they miss, without starting any service"
        );
    }
    println!("{}", advice(&missing));
    ExitCode::FAILURE
}
