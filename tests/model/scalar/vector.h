#include "../../../model/native/amx/vector.h"
