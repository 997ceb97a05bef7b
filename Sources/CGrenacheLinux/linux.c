#include "CGrenacheLinux.h"
