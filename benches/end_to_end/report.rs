//! The report: one Markdown table per scenario, so that it can stand in a README as it is.

use crate::bench::Sample;

/// All runs of one contender in one scenario.
#[derive(Debug)]
pub struct Row {
    pub contender: String,
    /// It is what the others with a store of the same kind are held against.
    pub is_direct: bool,
    /// The store was reached over TLS.
    pub store_tls: bool,
    /// CPU and memory are known.
    pub has_pid: bool,
    pub samples: Vec<Sample>,
    pub unit: Unit,
}

/// What one operation of a scenario moves.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    Bytes(u64),
    Files(u64),
    Logins(u64),
    Listing,
}

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

/// Prints the table of one scenario.
pub fn print(title: &str, rows: &[Row]) {
    let unit = rows.first().map_or(Unit::Listing, |row| row.unit);
    let (rate, cpu) = match unit {
        Unit::Bytes(_) => ("MiB/s", "CPU s/GiB"),
        Unit::Files(_) => ("files/s", "CPU ms/file"),
        Unit::Logins(_) => ("logins/s", "CPU ms/login"),
        Unit::Listing => ("lists/s", "CPU s"),
    };
    println!("\n{title}\n");
    println!(
        "| | median s | min to max | {rate} | of direct | {cpu} | store's {cpu} | peak MiB | store requests | remarks |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let mut direct = rows.iter().filter(|other| other.is_direct);
        let direct = direct.find(|direct| direct.store_tls == row.store_tls);
        let known = |text: String| if row.has_pid { text } else { "?".to_owned() };
        let seconds = row.all(|sample| sample.seconds);
        println!(
            "| {} | {:.3} | {:.3} to {:.3} | {:.1} | {} | {} | {:.2} | {} | {} | {} |",
            row.contender,
            row.seconds(),
            seconds.first().copied().unwrap_or(0.0),
            seconds.last().copied().unwrap_or(0.0),
            row.rate(),
            direct.map_or_else(
                || "-".to_owned(),
                |direct| format!("{:.2}", direct.seconds() / row.seconds())
            ),
            known(format!(
                "{:.2}",
                median(&row.all(|sample| sample.cpu_seconds)) * row.scale()
            )),
            median(&row.all(|sample| sample.store_cpu_seconds)) * row.scale(),
            known(format!(
                "{:.0}",
                row.all(|sample| sample.peak_bytes as f64 / MIB)
                    .last()
                    .unwrap_or(&0.0)
            )),
            row.requests(),
            row.remarks(),
        );
    }
}

impl Row {
    /// The runs that succeeded, smallest first; all if none did.
    fn all(&self, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let good = self.samples.iter().filter(|sample| sample.error.is_none());
        let mut values: Vec<f64> = good.map(&value).collect();
        if values.is_empty() {
            values = self.samples.iter().map(value).collect();
        }
        values.sort_by(f64::total_cmp);
        values
    }

    fn seconds(&self) -> f64 {
        median(&self.all(|sample| sample.seconds))
    }

    fn rate(&self) -> f64 {
        let seconds = self.seconds();
        match self.unit {
            Unit::Bytes(bytes) => bytes as f64 / MIB / seconds,
            Unit::Files(count) | Unit::Logins(count) => count as f64 / seconds,
            Unit::Listing => 1.0 / seconds,
        }
    }

    /// From CPU seconds of an operation to the table's unit.
    fn scale(&self) -> f64 {
        match self.unit {
            Unit::Bytes(bytes) => GIB / bytes as f64,
            Unit::Files(count) | Unit::Logins(count) => 1000.0 / count as f64,
            Unit::Listing => 1.0,
        }
    }

    /// Requests of the median run by operation; per file where there are many.
    fn requests(&self) -> String {
        let Some(sample) = self.samples.get(self.samples.len() / 2) else {
            return String::new();
        };
        let requests = sample.requests.iter().map(|(name, count)| match self.unit {
            Unit::Files(files) => format!("{name} {:.3} per file", *count as f64 / files as f64),
            Unit::Bytes(_) | Unit::Logins(_) | Unit::Listing => format!("{name} {count}"),
        });
        requests.collect::<Vec<_>>().join(", ")
    }

    fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        let slowest = self
            .samples
            .iter()
            .filter_map(|sample| sample.slowest_seconds);
        if let Some(slowest) = slowest.max_by(f64::total_cmp) {
            remarks.push(format!("slowest file {:.1} ms", slowest * 1000.0));
        }
        remarks.extend(self.samples.iter().filter_map(|sample| sample.note.clone()));
        let failures: u64 = self.samples.iter().map(|sample| sample.failures).sum();
        if failures > 0 {
            remarks.push(format!("{failures} failures"));
        }
        if let Some(error) = self.samples.iter().find_map(|sample| sample.error.as_ref()) {
            remarks.push(error.replace('|', "/"));
        }
        remarks.join("; ")
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        even if even % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
