/* What happens to a sum before it is stored: EPILOGUE(v), of the compute type. The plan gives it as a scalar expression, by a
 * define such as ("EPILOGUE(v_x)", Term("f32", "maximum(x, 0)")); without one, nothing happens. Products (gemm.h) and
 * convolutions end with it. */
#ifndef EPILOGUE
#define EPILOGUE(v) (v)
#else
#include "math.h"
#endif
