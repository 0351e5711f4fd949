//! What is tested of several layers at once, without the program.

mod hostile_input;
