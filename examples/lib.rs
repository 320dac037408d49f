//! The example programs of dflock; each is a file of its own in this folder.
