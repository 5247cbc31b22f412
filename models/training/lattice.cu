// Journey: log probabilities of a band of the RNN-T lattice -> its sum over all paths and the occupancy of every arc, on a GPU.
//
// The same recursions as `forward_backward` in lattice.py; one thread walks one utterance, S tokens of a frame in registers or
// local memory. It takes tenths of a millisecond for a batch, where a loop of tensor operations takes tens. No header is
// included, so that it compiles at run time (NVRTC), and as plain C in the tests. S comes from outside.

#define LOW (-1e9)

static __device__ double logadd(double a, double b) {
  double high = a > b ? a : b, low = a > b ? b : a;
  return high + log1pf(expf((float)(low - high)));
}

// blank, emit: [batch, frames, S] log probabilities; lo: [batch, frames] first token of the band; n: valid frames, u: tokens
// [batch]; alpha: scratch [batch, frames, S]; out: loss [batch], db and de [batch, frames, S] (zero where nothing is written).
static __device__ void walk(int row, const float *blank, const float *emit, const int *lo, const int *n, const int *u,
                            double *alpha, float *loss, float *db, float *de, int frames) {
  long at = (long)row * frames;
  const float *b = blank + at * S, *e = emit + at * S;
  double *a = alpha + at * S, here[S + 1], next[S + 1];
  lo += at, db += at * S, de += at * S;
  int last = n[row] - 1, tokens = u[row];
  for (int t = 0; t <= last; t++) {
    int step = t ? lo[t] - lo[t - 1] : 0;
    for (int s = 0; s < S; s++) {
      double from = t ? (s + step < S ? next[s + step] : LOW) : (s ? LOW : 0.);
      double up = s && lo[t] + s - 1 < tokens ? here[s - 1] + e[t * S + s - 1] : LOW;
      here[s] = logadd(from, up);
      a[t * S + s] = here[s];
    }
    for (int s = 0; s < S; s++) next[s] = here[s] + b[t * S + s];
  }
  double total = next[tokens - lo[last]];
  loss[row] = (float)-total;
  for (int t = last; t >= 0; t--) {
    int step = t < last ? lo[t + 1] - lo[t] : 0;
    here[S] = LOW;
    for (int s = S - 1; s >= 0; s--) {
      double after = t == last ? (lo[t] + s == tokens ? 0. : LOW) : (s >= step ? next[s - step] : LOW);
      double up = lo[t] + s < tokens ? here[s + 1] + e[t * S + s] : LOW;
      here[s] = logadd(after + b[t * S + s], up);
      double p = a[t * S + s] - total;
      db[t * S + s] = -expf((float)fmin(p + after + b[t * S + s], 0.));
      de[t * S + s] = -expf((float)fmin(p + up, 0.));
    }
    for (int s = 0; s < S; s++) next[s] = here[s];
  }
}

extern "C" __global__ void band(const float *blank, const float *emit, const int *lo, const int *n, const int *u, double *alpha,
                                float *loss, float *db, float *de, int rows, int frames) {
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < rows) walk(row, blank, emit, lo, n, u, alpha, loss, db, de, frames);
}
