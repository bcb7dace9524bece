//! The command line that both benches have in common.

use anyhow::{Context as _, bail};
use pitcrew::config::parse_duration;
use std::{process::ExitCode, time::Duration};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) rounds: usize,
    /// Messages of one arm in one round.
    pub(crate) messages: usize,
    /// Rows or messages of a cell that is about many.
    pub(crate) many: usize,
    /// How long a cell lasts that is about time.
    pub(crate) lasting: Duration,
}

/// What was asked for.
pub(crate) struct Asked {
    pub(crate) size: Size,
    /// The words that stand for a part; none: the default.
    pub(crate) words: Vec<String>,
    pub(crate) strict: bool,
}

/// The command line without what cargo adds.
pub(crate) fn given() -> Vec<String> {
    std::env::args().skip(1).filter(|a| a != "--bench").collect()
}

/// Help, the run, or what is wrong with the question. `work` answers how many targets were missed.
pub(crate) fn main<F: Future<Output = anyhow::Result<usize>>>(
    help: &str,
    bench: &str,
    words: &[&str],
    size: Size,
    work: impl FnOnce(Asked) -> F,
) -> ExitCode {
    let arguments = given();
    if arguments.iter().any(|a| a == "-h" || a == "--help") {
        println!("{help}");
        return ExitCode::SUCCESS;
    }
    match asked(&arguments, words, size) {
        Ok(asked) => {
            let strict = asked.strict;
            ended(on_tokio(work(asked)), strict)
        }
        Err(error) => {
            eprintln!("{error:#}\n\nTry: cargo bench --bench {bench} -- --help");
            ExitCode::FAILURE
        }
    }
}

/// On as many threads as a worker has: one for each processor.
pub(crate) fn on_tokio<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

pub(crate) fn ended(missed: anyhow::Result<usize>, strict: bool) -> ExitCode {
    match missed {
        Ok(missed) if missed > 0 && strict => ExitCode::from(2),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn asked(arguments: &[String], words: &[&str], size: Size) -> anyhow::Result<Asked> {
    let mut asked = Asked { size, words: Vec::new(), strict: false };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        let number = |value: &String| -> anyhow::Result<usize> {
            value.parse().ok().filter(|n| *n > 0).with_context(|| format!("{argument} {value} is no number above 0"))
        };
        let time = |value: &String| -> anyhow::Result<Duration> {
            let time = parse_duration(value).filter(|time| !time.is_zero());
            time.with_context(|| format!("{argument} {value} is no time such as 30s or 2m"))
        };
        match argument.as_str() {
            "--rounds" => asked.size.rounds = number(value()?)?,
            "--messages" => asked.size.messages = number(value()?)?,
            "--many" => asked.size.many = number(value()?)?,
            "--lasting" => asked.size.lasting = time(value()?)?,
            "--strict" => asked.strict = true,
            word if words.contains(&word) => asked.words.push(word.to_owned()),
            other => bail!("`{other}` is no cell and no option; known: {}", words.join(", ")),
        }
    }
    Ok(asked)
}
