//! Reference Data Holder: the vehicles that can be recommended, in the binary or in a file of the operator's.
//!
//! Parsed once, at start, into what the ranking needs; a row that is not understood stops the start and is named.

use super::contract::{Class, Drive, Fuel};
use serde::Deserialize;
use std::{collections::HashMap, io::Read, path::Path};

/// The catalogue that every build carries (its source: `data/README.md`).
const EMBEDDED: &str = include_str!("../../data/vehicles.csv");

/// 100 km in miles.
const MILES_PER_100_KM: f64 = 62.137_119_2;
const LITRES_PER_GALLON: f64 = 3.785_411_8;
/// The energy of a gallon of petrol, after the US Environmental Protection Agency.
const KWH_PER_GALLON_EQUIVALENT: f64 = 33.705;
/// The compressed natural gas that holds as much energy as a gallon of petrol: 5.66 lb.
const KG_PER_GALLON_EQUIVALENT: f64 = 2.567;

/// All vehicles, in the order of the file.
#[derive(Debug)]
pub struct Catalogue {
    vehicles: Vec<Vehicle>,
    makes: Vec<String>,
    models: usize,
}

/// One variant of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Vehicle {
    /// The catalogue's number.
    pub id: u32,
    /// E.g. `Toyota`.
    pub make: String,
    /// E.g. `Prius`.
    pub model: String,
    /// The model year.
    pub year: u16,
    /// The body.
    pub class: Class,
    /// As the file words it.
    pub transmission: String,
    /// The driven wheels.
    pub drive: Drive,
    /// What it runs on.
    pub fuel: Fuel,
    /// What is bought for it.
    pub grade: Grade,
    /// What it uses, in [`Grade::unit`] per 100 km, city and highway mixed.
    pub per_100_km: f64,
    /// Cylinders and litres; none for electric cars.
    pub engine: Option<Engine>,
    /// Index in [`Catalogue::makes`].
    pub(super) make_index: u16,
    /// The same number for all variants and years of a model, less than [`Catalogue::models`].
    pub(super) model_index: u16,
}

/// The size of a combustion engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Engine {
    /// How many cylinders.
    pub cylinders: u8,
    /// In litres.
    pub displacement: f64,
}

/// What is paid for at the pump or the plug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// Regular petrol.
    Regular,
    /// Midgrade petrol.
    Midgrade,
    /// Premium petrol.
    Premium,
    /// Diesel.
    Diesel,
    /// Compressed natural gas.
    NaturalGas,
    /// Electricity.
    Electricity,
}
impl Grade {
    /// What it is sold by.
    pub fn unit(self) -> &'static str {
        match self {
            Self::NaturalGas => "kg",
            Self::Electricity => "kWh",
            Self::Regular | Self::Midgrade | Self::Premium | Self::Diesel => "l",
        }
    }

    /// How many units hold the energy (petrol: the volume) of a gallon, as the fuel economy figures mean it.
    fn units_per_gallon(self) -> f64 {
        match self {
            Self::NaturalGas => KG_PER_GALLON_EQUIVALENT,
            Self::Electricity => KWH_PER_GALLON_EQUIVALENT,
            Self::Regular | Self::Midgrade | Self::Premium | Self::Diesel => LITRES_PER_GALLON,
        }
    }
}

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file is not there or may not be read.
    #[error("open it: {0}")]
    Open(#[source] std::io::Error),
    /// It is not CSV, a column is missing, or a cell is not of its column's kind.
    #[error("read it: {0}")]
    Csv(#[from] csv::Error),
    /// A cell says something that this build does not know.
    #[error("read line {line}, column `{column}`: {problem}")]
    Cell {
        /// The line in the file.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What is wrong with the cell.
        problem: String,
    },
    /// Without vehicles nothing can be recommended.
    #[error("find a vehicle in it: there are no lines below the header")]
    Empty,
    /// Indices are kept small, so that a scan stays in the processor's cache.
    #[error("number its makes and models: there are more than {}", u16::MAX)]
    TooLarge,
}

/// One line as the file holds it.
#[derive(Deserialize)]
struct Line {
    id: u32,
    make: String,
    model: String,
    year: u16,
    class: String,
    transmission: String,
    drive: String,
    cylinders: Option<u8>,
    displacement_l: Option<f64>,
    fuel: String,
    highway_mpg: f64,
    city_mpg: f64,
}

impl Catalogue {
    /// The one in the binary.
    pub fn embedded() -> Result<Self, CatalogueError> {
        Self::parse(EMBEDDED.as_bytes())
    }

    /// One with the same columns in a file.
    pub fn open(path: &Path) -> Result<Self, CatalogueError> {
        Self::parse(std::fs::File::open(path).map_err(CatalogueError::Open)?)
    }

    /// Reads CSV with a header line.
    pub fn parse(csv: impl Read) -> Result<Self, CatalogueError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(csv);
        let headers = reader.headers()?.clone();
        let (mut vehicles, mut seen) = (Vec::new(), HashMap::new());
        let (mut makes, mut models) = (Numbers::default(), Numbers::default());
        for record in reader.records() {
            let record = record?;
            let at = record.position().map_or(0, csv::Position::line);
            let cell = |column, problem| CatalogueError::Cell { line: at, column, problem };
            let line: Line = record.deserialize(Some(&headers))?;
            if let Some(first) = seen.insert(line.id, at) {
                return Err(cell("id", format!("{} is also the id of line {first}", line.id)));
            }
            let make_index = makes.of(line.make.clone()).ok_or(CatalogueError::TooLarge)?;
            let model_index = models.of((make_index, line.model.clone())).ok_or(CatalogueError::TooLarge)?;
            vehicles.push(vehicle(line, make_index, model_index).map_err(|(column, problem)| cell(column, problem))?);
        }
        if vehicles.is_empty() {
            return Err(CatalogueError::Empty);
        }
        Ok(Self { vehicles, makes: makes.in_order(), models: models.0.len() })
    }

    /// All vehicles, in the order of the file.
    pub fn vehicles(&self) -> &[Vehicle] {
        &self.vehicles
    }

    /// All makes, in the order in which the file names them first.
    pub fn makes(&self) -> &[String] {
        &self.makes
    }

    /// How many models there are, whatever their years and variants.
    pub fn models(&self) -> usize {
        self.models
    }

    /// The oldest and the newest model year.
    pub fn years(&self) -> (u16, u16) {
        self.vehicles.iter().fold((u16::MAX, u16::MIN), |(from, to), v| (from.min(v.year), to.max(v.year)))
    }
}

/// Gives each new name the next number.
struct Numbers<K>(HashMap<K, u16>);
impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}
impl<K: Eq + std::hash::Hash> Numbers<K> {
    fn of(&mut self, name: K) -> Option<u16> {
        let next = u16::try_from(self.0.len()).ok()?;
        Some(*self.0.entry(name).or_insert(next))
    }

    fn in_order(self) -> Vec<K> {
        let mut names: Vec<_> = self.0.into_iter().collect();
        names.sort_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

fn vehicle(line: Line, make_index: u16, model_index: u16) -> Result<Vehicle, (&'static str, String)> {
    let (fuel, grade) = fuel(&line.fuel).ok_or_else(|| unknown("fuel", &line.fuel))?;
    for (column, mpg) in [("highway_mpg", line.highway_mpg), ("city_mpg", line.city_mpg)] {
        if !(1.0..=1000.0).contains(&mpg) {
            return Err((column, format!("{mpg} is no number of miles per gallon: 1 to 1000")));
        }
    }
    let engine = match (line.cylinders, line.displacement_l) {
        (Some(cylinders), Some(displacement)) if displacement > 0.0 && displacement < 100.0 => {
            Some(Engine { cylinders, displacement })
        }
        (None, None) if fuel == Fuel::Electric => None,
        _ => {
            return Err((
                "displacement_l",
                "cylinders and litres go together, and only electric cars have none".into(),
            ));
        }
    };
    // 55 % city and 45 % highway, by gallons: how the Environmental Protection Agency makes its combined figure.
    let gallons_per_mile = 0.55 / line.city_mpg + 0.45 / line.highway_mpg;
    Ok(Vehicle {
        class: class(&line.class).ok_or_else(|| unknown("class", &line.class))?,
        drive: drive(&line.drive).ok_or_else(|| unknown("drive", &line.drive))?,
        per_100_km: gallons_per_mile * MILES_PER_100_KM * grade.units_per_gallon(),
        id: line.id,
        make: line.make,
        model: line.model,
        year: line.year,
        transmission: line.transmission,
        fuel,
        grade,
        engine,
        make_index,
        model_index,
    })
}

fn unknown(column: &'static str, cell: &str) -> (&'static str, String) {
    (column, format!("`{cell}` is not a {column} that this build knows"))
}

fn class(cell: &str) -> Option<Class> {
    Some(match cell {
        "Two Seaters" => Class::TwoSeater,
        "Minicompact Cars" => Class::Minicompact,
        "Subcompact Cars" => Class::Subcompact,
        "Compact Cars" => Class::Compact,
        "Midsize Cars" => Class::Midsize,
        "Large Cars" => Class::Large,
        "Small Station Wagons" | "Midsize Station Wagons" => Class::StationWagon,
        "Sport Utility Vehicle - 2WD"
        | "Sport Utility Vehicle - 4WD"
        | "Small Sport Utility Vehicle 2WD"
        | "Small Sport Utility Vehicle 4WD"
        | "Standard Sport Utility Vehicle 2WD"
        | "Standard Sport Utility Vehicle 4WD" => Class::Suv,
        "Small Pickup Trucks 2WD"
        | "Small Pickup Trucks 4WD"
        | "Standard Pickup Trucks 2WD"
        | "Standard Pickup Trucks 4WD" => Class::Pickup,
        "Minivan - 2WD" | "Minivan - 4WD" => Class::Minivan,
        "Vans, Cargo Type" | "Vans, Passenger Type" => Class::Van,
        "Special Purpose Vehicle 2WD" | "Special Purpose Vehicle 4WD" => Class::SpecialPurpose,
        _ => return None,
    })
}

fn drive(cell: &str) -> Option<Drive> {
    Some(match cell {
        "Front-Wheel Drive" => Drive::Front,
        "Rear-Wheel Drive" => Drive::Rear,
        "All-Wheel Drive" | "4-Wheel Drive" | "Part-time 4-Wheel Drive" | "4-Wheel or All-Wheel Drive" => Drive::All,
        _ => return None,
    })
}

fn fuel(cell: &str) -> Option<(Fuel, Grade)> {
    Some(match cell {
        "Regular" => (Fuel::Gasoline, Grade::Regular),
        "Midgrade" => (Fuel::Gasoline, Grade::Midgrade),
        "Premium" => (Fuel::Gasoline, Grade::Premium),
        // The figures are those on petrol.
        "Gasoline or E85" => (Fuel::FlexFuel, Grade::Regular),
        "Premium or E85" => (Fuel::FlexFuel, Grade::Premium),
        "Diesel" => (Fuel::Diesel, Grade::Diesel),
        "CNG" => (Fuel::NaturalGas, Grade::NaturalGas),
        // The figures are those on petrol alone: the catalogue does not say how far the battery goes.
        "Regular Gas and Electricity" => (Fuel::PlugInHybrid, Grade::Regular),
        "Premium Gas or Electricity" | "Premium and Electricity" => (Fuel::PlugInHybrid, Grade::Premium),
        "Electricity" => (Fuel::Electric, Grade::Electricity),
        _ => return None,
    })
}
