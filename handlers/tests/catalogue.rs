//! Reference Data Holder: what the catalogue says, and how a wrong one is refused.

use car_workers::recommendation::catalogue::{Catalogue, Vehicle};
use car_workers::recommendation::contract::{Class, Drive, Fuel};

const HEADER: &str = "id,make,model,year,class,transmission,drive,cylinders,displacement_l,fuel,highway_mpg,city_mpg";

fn vehicle(catalogue: &Catalogue, id: u32) -> &Vehicle {
    catalogue.vehicles().iter().find(|v| v.id == id).unwrap()
}

#[test]
fn the_catalogue_in_the_binary_is_whole() {
    let catalogue = Catalogue::embedded().unwrap();
    assert_eq!(catalogue.vehicles().len(), 5995);
    assert_eq!(catalogue.makes().len(), 59);
    assert_eq!(catalogue.models(), 1211);
    assert_eq!(catalogue.years(), (2010, 2015));
}

#[test]
fn miles_per_gallon_become_what_is_bought_for_100_km() {
    let catalogue = Catalogue::embedded().unwrap();
    let used = |id| format!("{:.3} {}", vehicle(&catalogue, id).per_100_km, vehicle(&catalogue, id).grade.unit());
    // Acura ILX, 35 highway and 24 city: 27.95 combined; 235.21 / 27.95.
    assert_eq!(used(33146), "8.415 l");
    // Nissan Leaf of 2015, 101 and 126 gallon-equivalents of 33.705 kWh: 113.36 combined; 2094.33 / 113.36.
    assert_eq!(used(34918), "18.473 kWh");
    // Honda Civic Natural Gas of 2014, 38 and 27 gallon-equivalents of 2.567 kg: 31.04 combined; 159.51 / 31.04.
    assert_eq!(used(34728), "5.138 kg");
}

#[test]
fn a_row_is_read_whole() {
    let catalogue = Catalogue::embedded().unwrap();
    let volt = vehicle(&catalogue, 33900);
    assert_eq!((volt.make.as_str(), volt.model.as_str(), volt.year), ("Chevrolet", "Volt", 2014));
    assert_eq!((volt.class, volt.drive, volt.fuel), (Class::Compact, Drive::Front, Fuel::PlugInHybrid));
    let engine = volt.engine.unwrap();
    assert_eq!((engine.cylinders, engine.displacement), (4, 1.4));
    assert_eq!(vehicle(&catalogue, 34918).engine, None);
}

#[test]
fn a_wrong_catalogue_is_refused_with_its_place() {
    let refused = |lines: &[&str]| {
        let csv = [&[HEADER], lines].concat().join("\n");
        Catalogue::parse(csv.as_bytes()).unwrap_err().to_string()
    };
    let good = "1,Fiat,500,2013,Minicompact Cars,Manual 5-spd,Front-Wheel Drive,4,1.4,Premium,40,31";
    assert_eq!(refused(&[]), "find a vehicle in it: there are no lines below the header");
    assert_eq!(refused(&[good, good]), "read line 3, column `id`: 1 is also the id of line 2");
    assert_eq!(
        refused(&[good, &good.replace("Minicompact Cars", "Rockets").replace("1,F", "2,F")]),
        "read line 3, column `class`: `Rockets` is not a class that this build knows"
    );
    assert_eq!(
        refused(&[&good.replace("Front-Wheel", "Sixth-Wheel")]),
        "read line 2, column `drive`: `Sixth-Wheel Drive` is not a drive that this build knows"
    );
    assert_eq!(
        refused(&[&good.replace("Premium", "Hay")]),
        "read line 2, column `fuel`: `Hay` is not a fuel that this build knows"
    );
    assert_eq!(
        refused(&[&good.replace(",40,31", ",40,0")]),
        "read line 2, column `city_mpg`: 0 is no number of miles per gallon: 1 to 1000"
    );
    assert_eq!(
        refused(&[&good.replace(",40,31", ",NaN,31")]),
        "read line 2, column `highway_mpg`: NaN is no number of miles per gallon: 1 to 1000"
    );
    assert_eq!(
        refused(&[&good.replace("4,1.4", ",")]),
        "read line 2, column `displacement_l`: cylinders and litres go together, and only electric cars have none"
    );
    assert_eq!(
        refused(&[&good.replace("2013", "soon")]),
        "read it: CSV deserialize error: record 1 (line: 2, byte: 95): field 3: invalid digit found in string"
    );
    assert_eq!(
        refused(&["1,Fiat"]),
        "read it: CSV error: record 1 (line: 2, byte: 95): found record with 2 fields, but the previous record has 12 fields"
    );
    let without_fuel = Catalogue::parse(&b"id,make\n1,Fiat"[..]).unwrap_err().to_string();
    assert_eq!(without_fuel, "read it: CSV deserialize error: record 1 (line: 2, byte: 8): missing field `model`");
    let garbage = Catalogue::parse(&[0xff, 0xfe, b'\n', 0xff][..]).unwrap_err().to_string();
    assert!(garbage.starts_with("read it: CSV"), "{garbage}");
    let missing = Catalogue::open("no/such/file.csv".as_ref()).unwrap_err().to_string();
    assert!(missing.starts_with("open it: No such file"), "{missing}");
}
