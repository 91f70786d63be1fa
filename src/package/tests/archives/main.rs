//! Packages made, opened and attacked: whole archives in, trees and codes out.

mod forge;
mod hostile_tar;
mod hostile_zip;
mod process;
mod raw_zip;
mod round_trip;
mod stream;
