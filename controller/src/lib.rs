//! What changes by time alone: decided in pure functions of what the store holds and a moment, carried out by one thin
//! loop through the store's writer.
