//! What: parses PTX files and says what is wrong with them.
//! Why here: the quickest answer to "can the machine run this?".
//! Pre: paths on the command line.
//! Post: one line per file on standard output.
#![allow(clippy::print_stdout)]

fn main() {
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(t) => t,
            Err(e) => {
                println!("{path}: {e}");
                continue;
            }
        };
        match tilewright_emulator::Program::parse(&text) {
            Ok(p) => {
                for e in p.entries() {
                    println!("{path}: {e}: {} registers live", p.register_pressure(e).unwrap_or(0));
                }
            }
            Err(e) => println!("{path}: {e}"),
        }
    }
}
