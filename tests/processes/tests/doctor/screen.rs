//! What `doctor` shows, as a person and as a program see it.

use processes::shop::Shop;
use serde_json::Value;
use std::{
    process::Output,
    time::{Duration, Instant},
};

/// It never takes longer, whatever does not answer: twice five seconds, and some for a machine that has other things to do.
const LONGEST: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) code: i32,
    pub(crate) text: String,
    pub(crate) lines: Vec<Shown>,
}

#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) of: String,
    pub(crate) standing: String,
    pub(crate) says: String,
    pub(crate) then: Option<String>,
    pub(crate) facts: Value,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Screen {
    /// Of this shop, with these flags.
    #[track_caller]
    pub(crate) fn of(shop: &Shop, flags: &[&str]) -> Self {
        let began = Instant::now();
        let (person, program) = ([&["doctor"], flags].concat(), [&["doctor", "--json"], flags].concat());
        let (told, shown) = std::thread::scope(|both| {
            let shown = both.spawn(|| shop.typed(&person, &[]));
            (shop.typed(&program, &[]), shown.join())
        });
        assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
        Self::read(&shown.expect("it is shown"), &told)
    }

    fn read(shown: &Output, told: &Output) -> Self {
        let screen = text(&shown.stdout);
        assert_eq!(text(&shown.stderr), "", "everything is on the screen: {screen}");
        let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        let string = |value: &Value| value.as_str().map(str::to_owned);
        let lines = told["lines"].as_array().expect("lines").iter().map(|line| Shown {
            of: string(&line["of"]).expect("a subject"),
            standing: string(&line["standing"]).expect("a standing"),
            says: string(&line["says"]).expect("a sentence"),
            then: string(&line["then"]),
            facts: line["facts"].clone(),
        });
        let screen =
            Self { code: shown.status.code().expect("it ends by itself"), text: screen, lines: lines.collect() };
        screen.is_whole(told["standing"].as_str().expect("a standing"));
        screen
    }

    /// What holds whatever it says.
    fn is_whole(&self, worst: &str) {
        for line in &self.lines {
            let is_ok = line.standing == "ok";
            assert!(is_ok || line.then.is_some(), "no command: {line:?}");
            assert!(!line.says.contains(char::is_control), "{line:?}");
            if let Some(then) = &line.then {
                assert!(self.text.contains(&format!("→ {then}\n")), "{then} is not on the screen:\n{}", self.text);
            }
        }
        let bad = self.lines.iter().any(|line| line.standing == "bad");
        assert_eq!((self.code, worst == "bad"), (i32::from(bad), bad), "{}", self.text);
        assert!(!self.text.contains('\x1b'), "colours are for terminals: {}", self.text);
    }

    /// The line about this which says that.
    #[track_caller]
    pub(crate) fn line(&self, of: &str, words: &str) -> &Shown {
        let found = self.lines.iter().find(|line| line.of == of && line.says.contains(words));
        found.unwrap_or_else(|| panic!("no line of {of} says {words:?}:\n{}", self.text))
    }

    /// Whether some line is about this and says that.
    pub(crate) fn says(&self, of: &str, words: &str) -> bool {
        self.lines.iter().any(|line| line.of == of && line.says.contains(words))
    }

    /// Every command that it gives ends well, or with what is found: `topology plan` ends with 1 while something differs.
    pub(crate) fn advice_works(&self, shop: &Shop) {
        let mut tried: Vec<&String> = self.lines.iter().filter_map(|line| line.then.as_ref()).collect();
        tried.sort_unstable();
        tried.dedup();
        assert!(!tried.is_empty(), "{}", self.text);
        for then in tried {
            let ran = shop.shell(then);
            let finds = then.contains("topology plan") && self.says("topology", "a start is refused");
            let expected = i32::from(finds);
            assert_eq!(ran.status.code(), Some(expected), "{then}: {}{}", text(&ran.stdout), text(&ran.stderr));
        }
    }
}
