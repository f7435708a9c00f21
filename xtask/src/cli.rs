//! The command line of `cargo xtask`: parses, hands over, prints.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    bench::{self, Benchmark},
    demo,
    machine::Machine,
    progress, test, torture,
};

/// The tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows tenantd with two real agents in a machine of its own: applied, backed up, lost and restored.
    Demo(demo::Options),
    /// Builds, boots and enters the test machine: Debian 13 with systemd and Podman, in a container, as root.
    Machine {
        /// Which machine; each has its own disk.
        #[arg(long, default_value = "dev", global = true)]
        name: String,
        #[command(subcommand)]
        command: MachineCommand,
    },
    /// The same as a virtual machine: a kernel of its own that is a process, with cgroup controllers, quotas and swap.
    Vm {
        /// Which machine; each has its own disk.
        #[arg(long, default_value = "dev", global = true)]
        name: String,
        #[command(subcommand)]
        command: MachineCommand,
    },
    /// Format check, lints, licences, unit tests, then the integration tests in test machines.
    Test(test::Options),
    /// Crashes, cuts the power, damages and lies, as long as you like: every acknowledged snapshot must restore.
    Torture(torture::Options),
    /// Measures what was promised, beside what it is compared with; prints a table and writes target/bench/NAME.json.
    Bench {
        #[command(subcommand)]
        benchmark: Benchmark,
    },
}

#[derive(Debug, Subcommand)]
enum MachineCommand {
    /// Builds the machine's root and the agents' images, unless they are in the cache.
    Build,
    /// Boots the machine, or leaves it up.
    Up,
    /// A login shell in the machine.
    Shell,
    /// Runs a command in the machine with this terminal and its exit code.
    Run {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Reboots the machine.
    Reboot,
    /// Shuts the machine down; by force when it does not obey.
    Down,
    /// Ends the machine and erases its disk.
    Reset,
    /// Says whether the machine is up and what systemd thinks of it.
    Status,
}

/// Runs the task that the command line asks for.
pub fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().task {
        Task::Demo(options) => demo::run(&options)?,
        Task::Machine { name, command } => machine(&Machine::named(&name)?, command)?,
        Task::Vm { name, command } => machine(&Machine::virtual_named(&name)?, command)?,
        Task::Test(options) => test::run(&options)?,
        Task::Torture(options) => torture::run(&options)?,
        Task::Bench { benchmark } => bench::run(&benchmark)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn machine(machine: &Machine, command: MachineCommand) -> anyhow::Result<()> {
    let name = machine.name().to_owned();
    match command {
        MachineCommand::Build => machine.build(),
        MachineCommand::Up => {
            if !machine.is_up()? {
                machine.build()?;
                progress::step(format!("Booting machine {name}"), || machine.boot())?;
            }
            println!("{}", machine.state()?);
            Ok(())
        }
        MachineCommand::Shell => match machine.shell()? {},
        MachineCommand::Run { command } => match machine.exec(&command)? {},
        MachineCommand::Reboot => {
            progress::step(format!("Rebooting machine {name}"), || machine.reboot())
        }
        MachineCommand::Down => {
            progress::step(format!("Stopping machine {name}"), || machine.down())
        }
        MachineCommand::Reset => {
            progress::step(format!("Erasing machine {name}"), || machine.reset())
        }
        MachineCommand::Status => {
            println!("{}", machine.state()?);
            Ok(())
        }
    }
}
