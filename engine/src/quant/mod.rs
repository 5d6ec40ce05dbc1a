//! What a weight is: block formats of files.

pub mod blocks;
