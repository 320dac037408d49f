//! One connection: its bytes, its end, its secret, and who may use it next.

mod bytes;
mod cut_off;
mod end;
mod pool;
mod rotten;
mod secret;
mod woken;
mod writes;
