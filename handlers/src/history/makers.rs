//! Lookup Table: who makes cars under which code (World Manufacturer Identifier), and where the code was given out.
//!
//! The makers are the common ones; the whole list is sold by SAE International. A code that is not here is an unknown maker, never
//! an error.

/// The maker of a code of three characters.
pub(super) fn maker(wmi: &str) -> Option<&'static str> {
    MAKERS.iter().find(|(_, codes)| codes.split(' ').any(|code| code == wmi)).map(|(maker, _)| *maker)
}

/// The country of the first two characters.
pub(super) fn country(code: &str) -> Option<&'static str> {
    COUNTRIES.iter().find(|(from, to, _)| (rank(from)..=rank(to)).contains(&rank(code))).map(|(.., country)| *country)
}

/// ISO 3780 counts A to Z, then 1 to 9, then 0.
fn rank(code: &str) -> Vec<usize> {
    const ORDER: &str = "ABCDEFGHJKLMNPRSTUVWXYZ1234567890";
    code.chars().map(|c| ORDER.find(c).unwrap_or(ORDER.len())).collect()
}

const MAKERS: &[(&str, &str)] = &[
    ("Acura", "19U 2HN JH4"),
    ("Alfa Romeo", "ZAR ZAS"),
    ("Aston Martin", "SCF"),
    ("Audi", "WAU WA1 WUA TRU"),
    ("Bentley", "SCB"),
    ("BMW", "WBA WBS WBX WBY 4US 5UX 5UM"),
    ("Buick", "1G4 2G4 KL4"),
    ("BYD", "LGX LC0"),
    ("Cadillac", "1G6 1GY"),
    ("Chevrolet", "1G1 1GC 1GN 2G1 3GN 3GC KL1 KL8"),
    ("Chrysler", "1C3 2C3 2C4"),
    ("Citroën", "VF7"),
    ("Dacia", "UU1"),
    ("Dodge", "1B3 1D7 2B3 2D4"),
    ("Ferrari", "ZFF"),
    ("Fiat", "ZFA 3C3"),
    ("Ford", "1FA 1FB 1FC 1FD 1FM 1FT 2FM 2FT 3FA NM0 WF0"),
    ("Geely", "LB3"),
    ("GMC", "1GK 1GT 2GK 3GT"),
    ("Honda", "1HG 2HG 2HK 3HG 5FN 5J6 JHM JHL SHH 19X LHG LVH"),
    ("Hyundai", "KMH KM8 5NM 5NP TMA NLH MAL"),
    ("Infiniti", "JN1 5N3 3PC JNK JNR"),
    ("Jaguar", "SAJ"),
    ("Jeep", "1C4 1J4 1J8"),
    ("Kia", "KNA KND 5XX 5XY U5Y"),
    ("Lamborghini", "ZHW"),
    ("Land Rover", "SAL"),
    ("Lexus", "JTH JTJ 2T2 58A"),
    ("Lincoln", "1LN 5LM"),
    ("Lotus", "SCC"),
    ("Maserati", "ZAM"),
    ("Mazda", "JM1 JM3 JMZ 4F2 1YV 3MZ 3MY 7MM"),
    ("McLaren", "SBM"),
    ("Mercedes-Benz", "WDB WDC WDD WDF W1K W1N W1V 4JG 55S"),
    ("MINI", "WMW"),
    ("Mitsubishi", "JA3 JA4 JMB 4A3 4A4"),
    ("Motor Coach Industries", "1M8"),
    ("NIO", "LJ1"),
    ("Nissan", "1N4 1N6 3N1 3N6 5N1 JN8 SJN VSK"),
    ("Opel", "W0L W0V"),
    ("Peugeot", "VF3"),
    ("Polestar", "YSM LPS"),
    ("Porsche", "WP0 WP1"),
    ("Ram", "1C6 3C6"),
    ("Renault", "VF1 VF6"),
    ("Rolls-Royce", "SCA"),
    ("Saab", "YS3"),
    ("SEAT", "VSS"),
    ("Škoda", "TMB"),
    ("Smart", "WME"),
    ("Subaru", "JF1 JF2 4S3 4S4"),
    ("Suzuki", "JS2 JSA JS3 TSM MA3"),
    ("Tesla", "5YJ 7SA LRW XP7"),
    ("Toyota", "1NX 2T1 2T3 3TM 4T1 4T3 5TB 5TD 5TE 5TF JTD JTE JTM JTN SB1 VNK NMT"),
    ("Volkswagen", "WVW WVG WV1 WV2 1VW 3VW 3VV 9BW"),
    ("Volvo", "YV1 YV4 LVY 7JR"),
];

/// From, to and country, by ISO 3780; ranges that are not given out are left out.
const COUNTRIES: &[(&str, &str, &str)] = &[
    ("AA", "AH", "South Africa"),
    ("JA", "J0", "Japan"),
    ("KF", "KK", "Israel"),
    ("KL", "KR", "South Korea"),
    ("LA", "L0", "China"),
    ("MA", "ME", "India"),
    ("MF", "MK", "Indonesia"),
    ("ML", "MR", "Thailand"),
    ("NL", "NR", "Turkey"),
    ("PA", "PE", "Philippines"),
    ("PL", "PR", "Malaysia"),
    ("RF", "RK", "Taiwan"),
    ("RL", "RR", "Vietnam"),
    ("SA", "SM", "United Kingdom"),
    ("SU", "SZ", "Poland"),
    ("TA", "TH", "Switzerland"),
    ("TJ", "TP", "Czechia"),
    ("TR", "TV", "Hungary"),
    ("TW", "T1", "Portugal"),
    ("UH", "UM", "Denmark"),
    ("UU", "UZ", "Romania"),
    ("U5", "U7", "Slovakia"),
    ("VA", "VE", "Austria"),
    ("VF", "VR", "France"),
    ("VS", "VW", "Spain"),
    ("WA", "W0", "Germany"),
    ("XL", "XR", "Netherlands"),
    ("XS", "XW", "Russia"),
    ("X3", "X0", "Russia"),
    ("YA", "YE", "Belgium"),
    ("YF", "YK", "Finland"),
    ("YS", "YW", "Sweden"),
    ("ZA", "ZR", "Italy"),
    ("1A", "10", "United States"),
    ("2A", "20", "Canada"),
    ("3A", "3W", "Mexico"),
    ("4A", "40", "United States"),
    ("5A", "50", "United States"),
    ("6A", "6W", "Australia"),
    ("7A", "7E", "New Zealand"),
    ("7F", "70", "United States"),
    ("8A", "8E", "Argentina"),
    ("8F", "8K", "Chile"),
    ("9A", "9E", "Brazil"),
    ("93", "99", "Brazil"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_code_has_one_maker_and_a_country() {
        let mut seen = HashSet::new();
        for (maker, codes) in MAKERS {
            for code in codes.split(' ') {
                assert!(code.len() == 3 && seen.insert(code), "{maker}: `{code}`");
                assert!(country(&code[..2]).is_some(), "{maker}: `{code}` is of no country");
            }
        }
    }

    #[test]
    fn ranges_follow_the_order_of_the_standard() {
        assert_eq!((country("W0"), country("WA"), country("T1")), (Some("Germany"), Some("Germany"), Some("Portugal")));
        assert_eq!((country("ZX"), country("00"), country("U4")), (None, None, None));
        assert_eq!((country("XP"), country("7S")), (Some("Netherlands"), Some("United States")));
    }
}
