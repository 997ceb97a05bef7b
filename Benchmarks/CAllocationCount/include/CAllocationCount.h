// Counts every allocation of the process; linked into benchmarks only.
#ifndef C_ALLOCATION_COUNT_H
#define C_ALLOCATION_COUNT_H

#include <stdint.h>

/// Calls of malloc and its kin since the start.
uint64_t allocation_count(void);

#endif
