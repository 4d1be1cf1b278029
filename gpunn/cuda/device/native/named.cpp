// A library that has nothing but its name, by which it is found.
