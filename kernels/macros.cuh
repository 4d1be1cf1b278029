// What nearly every kernel file is specialised by.
#pragma once

#ifndef DTYPE
#error "define DTYPE, the element type of the arrays, such as float or double"
#endif
#ifndef INDEX
#error "define INDEX, the integer type that can count the elements of every array: int or long long"
#endif
