//! Value Object: a Vehicle Identification Number that was checked, and what its letters say.
//!
//! ISO 3779 (structure), ISO 3780 (maker codes), 49 CFR 565 (North America: check digit, model year), GB 16735 (China: the same).

use super::makers;
use serde::Serialize;
use std::fmt;

/// Seventeen letters and digits that can be a VIN. Made by [`Vin::parse`] only.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Vin(String);

/// What is wrong with a text that should be a VIN. It will be wrong tomorrow, too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VinError {
    /// Too short or too long.
    #[error("the VIN has {0} characters, a VIN has 17")]
    Length(usize),
    /// A character that no VIN holds.
    #[error("the VIN has `{}` at position {position}; {}", character.escape_default(), hint(*character))]
    Character {
        /// Which one.
        character: char,
        /// From 1.
        position: usize,
    },
    /// A misspelt VIN, most likely.
    #[error(
        "the VIN's check digit (position 9) is `{found}` and should be `{expected}`: one of its characters is wrong"
    )]
    CheckDigit {
        /// What stands there.
        found: char,
        /// What the other sixteen ask for.
        expected: char,
    },
    /// A letter that stands for no year, where one must.
    #[error("the VIN's model year (position 10) is `{0}`, which stands for no year")]
    ModelYear(char),
    /// The last four are a serial number everywhere.
    #[error("the VIN ends with `{0}`; its last four characters are digits")]
    Serial(String),
}

fn hint(character: char) -> &'static str {
    match character {
        'I' => "a VIN has no letter I: perhaps the digit 1",
        'O' | 'Q' => "a VIN has no letters O and Q: perhaps the digit 0",
        _ => "a VIN holds the digits and the letters A to Z without I, O and Q",
    }
}

const LENGTH: usize = 17;
/// Where the check digit stands.
const CHECK: usize = 8;
/// Where the model year stands.
const YEAR: usize = 9;
/// The codes of 30 years, from 1980 or 2010 on.
const YEARS: &[u8] = b"ABCDEFGHJKLMNPRSTVWXY123456789";

impl Vin {
    /// Takes a VIN as people type it: lower case and spaces around it are forgiven.
    ///
    /// # Errors
    /// Says which character is wrong, and what it may have been.
    pub fn parse(text: &str) -> Result<Self, VinError> {
        let text = text.trim();
        let count = text.chars().count();
        if count != LENGTH {
            return Err(VinError::Length(count));
        }
        let mut vin = String::with_capacity(LENGTH);
        for (at, character) in text.chars().enumerate() {
            let character = character.to_ascii_uppercase();
            if value(character).is_none() {
                return Err(VinError::Character { character, position: at + 1 });
            }
            vin.push(character);
        }
        let vin = Self(vin);
        if vin.must_check() {
            let (found, expected) = (vin.at(CHECK), vin.check_digit());
            if found != expected {
                return Err(VinError::CheckDigit { found, expected });
            }
            if !YEARS.contains(&vin.0.as_bytes()[YEAR]) {
                return Err(VinError::ModelYear(vin.at(YEAR)));
            }
        }
        // ISO 3779, 4.4. In North America the fifth from the end is one as well, for cars; trucks may differ.
        let serial = &vin.0[LENGTH - 4..];
        if !serial.bytes().all(|b| b.is_ascii_digit()) {
            return Err(VinError::Serial(serial.to_owned()));
        }
        Ok(vin)
    }

    /// The seventeen characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who made it, if the code is one of those that this build knows. A `9` at position 3 is a small maker, who shares his code.
    pub fn maker(&self) -> Option<&'static str> {
        (self.at(2) != '9').then(|| makers::maker(&self.0[..3])).flatten()
    }

    /// The country in which the maker's code was given out (ISO 3780); that is not always where the car was built.
    pub fn country(&self) -> Option<&'static str> {
        makers::country(&self.0[..2])
    }

    /// The model year, if the VIN says one. `latest` is the newest year that may be sold now: the code repeats every 30 years.
    ///
    /// Where the code is not prescribed (Europe, Japan, …) many makers write it all the same, namely into VINs for the American
    /// market, which have a right check digit, too: only those are read.
    pub fn model_year(&self, latest: u16) -> Option<u16> {
        if !self.must_check() && self.at(CHECK) != self.check_digit() {
            return None;
        }
        let code = self.0.as_bytes()[YEAR];
        let offset = u16::try_from(YEARS.iter().position(|year| *year == code)?).ok()?;
        let (early, late) = (1980 + offset, 2010 + offset);
        // 49 CFR 565.15(d)(1): cars and light trucks from 2010 on have a letter at position 7, earlier ones a digit. Heavy
        // vehicles need not keep to it, and China does not: there the newest year that can be is taken.
        let cars = self.is_north_american();
        let says_late = !self.at(6).is_ascii_digit();
        Some(if late <= latest && (!cars || says_late) { late } else { early })
    }

    /// In North America and China the check digit and the model year are law.
    fn must_check(&self) -> bool {
        self.is_north_american() || self.at(0) == 'L'
    }

    fn is_north_american(&self) -> bool {
        matches!(self.at(0), '1'..='5')
    }

    /// The weighted sum of all others, modulo 11; 10 is written X.
    fn check_digit(&self) -> char {
        check_digit(&self.0)
    }

    fn at(&self, index: usize) -> char {
        char::from(self.0.as_bytes()[index])
    }
}

impl fmt::Display for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What position 9 of these seventeen characters has to be; what stands there now weighs nothing.
pub(super) fn check_digit(characters: &str) -> char {
    const WEIGHTS: [u32; LENGTH] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let sum: u32 = characters.chars().zip(WEIGHTS).map(|(c, weight)| value(c).unwrap_or_default() * weight).sum();
    char::from_digit(sum % 11, 10).unwrap_or('X')
}

/// The number that a character stands for in the check digit; `None`: it is in no VIN.
fn value(character: char) -> Option<u32> {
    Some(match character {
        '0'..='9' => u32::from(character) - u32::from('0'),
        'A'..='H' => u32::from(character) - u32::from('A') + 1,
        'J'..='N' => u32::from(character) - u32::from('J') + 1,
        'P' => 7,
        'R' => 9,
        'S'..='Z' => u32::from(character) - u32::from('S') + 2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sixteen characters and a place for the check digit, which is filled.
    fn checked(text: &str) -> String {
        let mut text = text.to_owned();
        text.replace_range(CHECK..=CHECK, &check_digit(&text).to_string());
        text
    }

    fn vin(text: &str) -> Vin {
        Vin::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_well_known_vin_is_read() {
        let honda = vin("1HGCM82633A004352");
        assert_eq!((honda.maker(), honda.country()), (Some("Honda"), Some("United States")));
        assert_eq!(honda.model_year(2026), Some(2003));
        let test = vin("11111111111111111"); // the standard's own example of a check digit
        assert_eq!(test.as_str().len(), 17);
        assert_eq!(vin("1M8GDM9AXKP042788").maker(), Some("Motor Coach Industries")); // the X of 49 CFR 565
    }

    #[test]
    fn what_people_type_is_forgiven_and_what_could_be_another_car_is_not() {
        assert_eq!(vin(" 1hgcm82633a004352\n").as_str(), "1HGCM82633A004352");
        let wrong = |text: &str| Vin::parse(text).unwrap_err();
        assert_eq!(wrong("1HGCM82633A004353"), VinError::CheckDigit { found: '3', expected: '5' });
        assert_eq!(wrong("1HGCM82633A00435"), VinError::Length(16));
        assert_eq!(wrong(""), VinError::Length(0));
        assert_eq!(
            wrong("1HGCM82633AOO4352").to_string(),
            "the VIN has `O` at position 12; a VIN has no letters O and Q: perhaps the digit 0"
        );
    }

    #[test]
    fn every_single_typing_error_in_a_north_american_vin_is_found() {
        let right = "1HGCM82633A004352";
        let letters: Vec<char> = ('A'..='Z').chain('0'..='9').filter(|c| value(*c).is_some()).collect();
        for at in 0..LENGTH {
            for letter in &letters {
                let mut wrong: Vec<char> = right.chars().collect();
                let was = std::mem::replace(&mut wrong[at], *letter);
                let wrong: String = wrong.into_iter().collect();
                // Letters that stand for the same number are the blind spot of the check digit; another region has none at all.
                let elsewhere = at == 0 && !matches!(letter, '1'..='5' | 'L');
                let blind = value(was) == value(*letter) && at < 13 && at != CHECK;
                assert_eq!(Vin::parse(&wrong).is_ok(), was == *letter || blind || elsewhere, "{wrong}");
            }
        }
    }

    #[test]
    fn europe_prescribes_neither_check_digit_nor_year() {
        let golf = vin("WVWZZZ1JZXW000001");
        assert_eq!((golf.maker(), golf.country()), (Some("Volkswagen"), Some("Germany")));
        assert_eq!(golf.model_year(2026), None, "its check digit is a filler, so nothing is read");
        let american = vin("WBA3A5C57CF256651"); // made for the American market
        assert_eq!((american.maker(), american.model_year(2026)), (Some("BMW"), Some(2012)));
    }

    #[test]
    fn the_thirty_years_are_told_apart() {
        let of = |seventh: char, year: char| vin(&checked(&format!("1HGCM8{seventh}30{year}A004352"))).model_year(2026);
        assert_eq!((of('6', 'A'), of('A', 'A')), (Some(1980), Some(2010)));
        assert_eq!((of('6', '9'), of('A', '9')), (Some(2009), Some(2009)), "2039 is not built yet");
        assert_eq!((of('6', 'Y'), of('A', 'T')), (Some(2000), Some(2026)));
    }

    #[test]
    fn a_year_that_is_none_and_a_serial_that_is_none_are_refused() {
        for year in ['0', 'U', 'Z'] {
            let wrong = checked(&format!("1HGCM8260{year}A004352"));
            assert_eq!(Vin::parse(&wrong).unwrap_err(), VinError::ModelYear(year));
        }
        assert_eq!(Vin::parse("WVWZZZ1JZXW00000A").unwrap_err(), VinError::Serial("000A".into()));
    }

    #[test]
    fn hostile_texts_are_refused_and_told_safely() {
        for text in [
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "İİİİİİİİİİİİİİİİİ",
            "１HGCM82633A004352",
            "1HGCM8\u{202e}633A004352",
        ] {
            let told = Vin::parse(text).unwrap_err().to_string();
            assert!(told.is_ascii(), "{told}");
        }
        assert_eq!(Vin::parse(&"1".repeat(1_000_000)).unwrap_err(), VinError::Length(1_000_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Anything, and what is nearly one.
        #[test]
        fn any_text_is_a_vin_that_reads_the_same_again_or_is_refused_in_words(
            text in prop_oneof![".{0,40}", "\\PC{17}", "[0-9A-Za-z]{15,18}", "[1-5L][0-9A-HJ-NPR-Z]{12}[0-9]{4}"],
            fill in any::<bool>(),
            latest in any::<u16>(),
        ) {
            let text = if fill && text.len() == LENGTH && text.is_ascii() { checked(&text) } else { text };
            match Vin::parse(&text) {
                Ok(vin) => {
                    prop_assert!(vin.as_str().len() == LENGTH && vin.as_str().chars().all(|c| value(c).is_some()));
                    prop_assert_eq!(Vin::parse(vin.as_str()), Ok(vin.clone()));
                    let _ = (vin.maker(), vin.country());
                    prop_assert!(vin.model_year(latest).is_none_or(|year| (1980..=2039).contains(&year)));
                }
                Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control), "{}", error),
            }
        }
    }
}
