// What one core of this processor multiplies at most, for the rows of bench/asr_engine.py: no product can be faster.
//
// Comes in: nothing. Goes out: a line with 10⁹ multiplications with addition a second in fp32 and bf16, from a loop of
// nothing else over registers (the best of five). Must not know: models.
#include <stdio.h>
#include <time.h>

#define TURNS 10000000L
#define SUMS 24

#define WIDE(operation, n) operation " %zmm30, %zmm31, %zmm" #n "\n"
#define HALF(operation, n) operation " %ymm14, %ymm15, %ymm" #n "\n"
#define EIGHT_WIDE(op, a, b, c, d, e, f, g, h) \
  WIDE(op, a) WIDE(op, b) WIDE(op, c) WIDE(op, d) WIDE(op, e) WIDE(op, f) WIDE(op, g) WIDE(op, h)
#define ALL_WIDE(op)                                                                      \
  EIGHT_WIDE(op, 0, 1, 2, 3, 4, 5, 6, 7) EIGHT_WIDE(op, 8, 9, 10, 11, 12, 13, 14, 15) \
  EIGHT_WIDE(op, 16, 17, 18, 19, 20, 21, 22, 23)
#define EIGHT_HALF(op) \
  HALF(op, 0) HALF(op, 1) HALF(op, 2) HALF(op, 3) HALF(op, 4) HALF(op, 5) HALF(op, 6) HALF(op, 7)

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

// The values do not matter: a processor multiplies zeros as fast. A call may overwrite all vector registers.
#define ALONE __attribute__((noinline, noclone))
ALONE static void fp32_512(void) { __asm__ volatile(ALL_WIDE("vfmadd231ps")); }
ALONE static void bf16_512(void) { __asm__ volatile(ALL_WIDE("vdpbf16ps")); }
ALONE static void fp32_256(void) {
  __asm__ volatile(EIGHT_HALF("vfmadd231ps") EIGHT_HALF("vfmadd231ps") EIGHT_HALF("vfmadd231ps"));
}

static double most(void (*turn)(void), int lanes) {
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const double begin = now();
    for (long i = 0; i < TURNS; ++i) turn();
    const double speed = (double)TURNS * SUMS * lanes / (now() - begin) * 1e-9;
    if (speed > best) best = speed;
  }
  return best;
}

int main(void) {
  const int wide = __builtin_cpu_supports("avx512f"), pairs = __builtin_cpu_supports("avx512bf16");
  if (!wide && !__builtin_cpu_supports("fma")) return puts("peak of a core: this processor has no FMA"), 0;
  printf("peak of a core: fp32 %.1f GMAC/s", wide ? most(fp32_512, 16) : most(fp32_256, 8));
  if (pairs) printf(", bf16 %.1f GMAC/s", most(bf16_512, 32));
  return puts(""), 0;
}
