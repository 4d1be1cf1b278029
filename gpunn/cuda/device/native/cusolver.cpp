// What CuPy's wheel calls of cuSOLVER in C: its loops over batches. The rest it calls through a module of ours in
// Python, and that is where these calls go too.
#define GPUNN_API extern "C" __attribute__((visibility("default")))

enum { not_initialized = 1 };

typedef int Gesvd(void*, signed char, signed char, int, int, void*, int, void*, void*, int, void*, int, void*, int,
                  void*, int*);
typedef int Geqrf(void*, int, int, void*, int, void*, void*, int, int*);
typedef int Orgqr(void*, int, int, int, void*, int, void*, void*, int, int*);

static Gesvd* gesvd[4];
static Geqrf* geqrf[4];
static Orgqr* orgqr[4];

// The functions for the types S, D, C and Z in turn.
GPUNN_API void gpunn_cusolver_connect(int type, Gesvd* a, Geqrf* b, Orgqr* c) {
    gesvd[type] = a, geqrf[type] = b, orgqr[type] = c;
}

#define SERVE(name, type, generate)                                                                                    \
    GPUNN_API int cusolverDn##name##gesvd(void* h, signed char ju, signed char jv, int m, int n, void* a, int lda,     \
                                          void* s, void* u, int ldu, void* v, int ldv, void* w, int lwork, void* r,    \
                                          int* info) {                                                                 \
        if (!gesvd[type]) return not_initialized;                                                                      \
        return gesvd[type](h, ju, jv, m, n, a, lda, s, u, ldu, v, ldv, w, lwork, r, info);                             \
    }                                                                                                                  \
    GPUNN_API int cusolverDn##name##geqrf(void* h, int m, int n, void* a, int lda, void* t, void* w, int lwork,        \
                                          int* info) {                                                                 \
        return geqrf[type] ? geqrf[type](h, m, n, a, lda, t, w, lwork, info) : not_initialized;                        \
    }                                                                                                                  \
    GPUNN_API int cusolverDn##generate(void* h, int m, int n, int k, void* a, int lda, void* t, void* w, int lwork,    \
                                       int* info) {                                                                    \
        return orgqr[type] ? orgqr[type](h, m, n, k, a, lda, t, w, lwork, info) : not_initialized;                     \
    }

SERVE(S, 0, Sorgqr)
SERVE(D, 1, Dorgqr)
SERVE(C, 2, Cungqr)
SERVE(Z, 3, Zungqr)
