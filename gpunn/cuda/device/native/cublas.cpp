// cuBLAS's API, version 2, as its documentation has it: checks, streams and pointer modes; blas.h computes.
#include <set>
#include <utility>

#include "blas.h"
#include "device.h"

namespace gpunn_device {

namespace {

// ---- statuses, handles ------------------------------------------------------------------------------------------

enum Status : int {
    done = 0,
    not_initialized = 1,
    alloc_failed = 3,
    bad_value = 7,
    execution_failed = 13,
    unsupported = 15,
};

enum { plain, transpose, adjoint };  // cublasOperation_t
enum { lower, upper };               // cublasFillMode_t
enum { on_left, on_right };          // cublasSideMode_t

struct Handle {
    int device = 0;
    std::intptr_t stream = 0;
    bool scalars_on_device = false;
    int math_mode = 0;
};

std::set<Handle*> handles;

int status_of(int error) {
    error = told_later(error);
    return !error ? done : error == out_of_memory ? alloc_failed : execution_failed;
}

bool known(Handle* handle) { return handles.count(handle); }

// ---- work -----------------------------------------------------------------------------------------------------------

// What a piece of work is about to touch: by a pointer to const it reads.
class Reach {
public:
    Reach(const char* label, int device) : label_(label), device_(device) {}

    int error() const { return error_; }

    template <class T> bool lines(T* data, Index width, Index height, Index pitch) {
        if (width <= 0 || height <= 0 || error_ == illegal_address) return error_ != illegal_address;
        Rows bytes{(std::size_t)width * sizeof(T), (std::size_t)height, (std::size_t)pitch * sizeof(T)};
        if (int error = reach(label_, device_, data, bytes, !std::is_const<T>::value)) error_ = error;
        return error_ != illegal_address;
    }

    template <class T> bool operator()(T* data, Index count) { return lines(data, count, 1, 0); }

    // Columns of `rows` elements that lie `ld` apart.
    template <class T> bool matrix(T* data, Index rows, Index columns, Index ld) { return lines(data, rows, columns, ld); }

    template <class T> bool triangle(T* data, bool lower, Index n, Index ld) {
        for (Index j = 0; j < n; j++)
            if (!(*this)(data + j * ld + (lower ? j : 0), lower ? n - j : j + 1)) return false;
        return true;
    }

    template <class T> bool vector(T* data, Index n, Index step) {
        return lines(data, n > 0, step ? n : 1, std::abs(step));
    }

private:
    const char* label_;
    int device_, error_ = success;
};

// Gives the stream of the handle work(reach), which returns false where it could not reach its memory.
template <class F> int submit(Handle* handle, const char* label, F work) {
    const int device = handle->device;
    return status_of(enqueue(handle->stream, label, [=]() -> int {
        Reach reach(label, device);
        try {
            return work(reach) ? reach.error() : illegal_address;
        } catch (const std::bad_alloc&) {
            return out_of_memory;
        }
    }));
}

// A factor that the caller passes by address: of the host, then it is read at once, or of the device, then it is read
// when the work is done.
template <class T> class Scalar {
public:
    Scalar(Handle* handle, const T* place) : place_(place), late_(handle->scalars_on_device) {
        if (!late_ && place) value_ = *place;
    }
    bool given() const { return place_; }
    bool reach(Reach& reach) const { return !late_ || reach(place_, 1); }
    T operator()() const { return late_ ? *place_ : value_; }

private:
    const T* place_;
    bool late_;
    T value_ = T();
};

// Has *out = compute(reach) done; where the result is the host's, it is there when the call returns.
template <class R, class F> int give(Handle* handle, const char* label, R* out, F compute) {
    if (!out) return bad_value;
    const bool waits = !handle->scalars_on_device;
    if (waits) {
        Stream* stream = stream_of(handle->stream);
        if (!stream) return execution_failed;
        if (stream->graph) return status_of(stream_synchronize(handle->stream));  // which a capture forbids
    }
    int status = submit(handle, label, [=](Reach& reach) {
        if (!waits && !reach(out, 1)) return false;
        return compute(reach, *out);
    });
    if (!waits) return status;
    const int waited = status_of(stream_synchronize(handle->stream));
    return status ? status : waited;
}

// ---- what arguments may be --------------------------------------------------------------------------------------

bool is_operation(int op) { return op == plain || op == transpose || op == adjoint; }

bool fits(int ld, int rows) { return ld >= std::max(1, rows); }

// op(matrix), of which the matrix is stored.
template <class T> View<const T> operand(const T* data, int ld, int op) {
    if (op == plain) return {data, 1, ld};
    return {data, ld, 1, op == adjoint && (is_complex<T> || std::is_same<T, Int8Complex>::value)};
}

// The matrices of a batch: one after the other, or each at a place that an array on the device has.
template <class T> struct Batch {
    T* first = nullptr;
    long long stride = 0;
    T* const* places = nullptr;

    bool reach(Reach& reach, int count) const { return !places || reach(places, count); }
    T* operator[](int i) const { return places ? places[i] : first + i * stride; }
};

template <class T> Batch<T> one(T* matrix) { return {matrix}; }
template <class T> Batch<T> strided(T* first, long long stride) { return {first, stride}; }
template <class T> Batch<T> listed(T* const* places) { return {nullptr, 0, places}; }

// ---- products of matrices -------------------------------------------------------------------------------------------

struct Shape {
    int op_a, op_b, m, n, k, lda, ldb, ldc, count;

    bool valid() const {
        return is_operation(op_a) && is_operation(op_b) && m >= 0 && n >= 0 && k >= 0 && count >= 0 &&
               fits(lda, op_a == plain ? m : k) && fits(ldb, op_b == plain ? k : n) && fits(ldc, m);
    }
};

// With sums of type T, scalars of type S, factors of E and results of O.
template <class T, class S, class E, class O>
int products(Handle* handle, const char* label, Shape s, const S* alpha_place, Batch<const E> a, Batch<const E> b,
             const S* beta_place, Batch<O> c) {
    Scalar<S> alpha(handle, alpha_place), beta(handle, beta_place);
    if (!s.valid() || !alpha.given() || !beta.given()) return bad_value;
    if (!s.m || !s.n || !s.count) return done;
    return submit(handle, label, [=](Reach& reach) {
        if (!alpha.reach(reach) || !beta.reach(reach)) return false;
        if (!a.reach(reach, s.count) || !b.reach(reach, s.count) || !c.reach(reach, s.count)) return false;
        const T factor = (T)alpha(), old = (T)beta();
        for (int i = 0; i < s.count; i++) {
            const E *left = a[i], *right = b[i];
            O* out = c[i];
            if (factor != T(0)) {
                if (!reach.matrix(left, s.op_a == plain ? s.m : s.k, s.op_a == plain ? s.k : s.m, s.lda)) return false;
                if (!reach.matrix(right, s.op_b == plain ? s.k : s.n, s.op_b == plain ? s.n : s.k, s.ldb)) return false;
            }
            if (!reach.matrix(out, s.m, s.n, s.ldc)) return false;
            multiply_rounded<T, E, O>(s.m, s.n, s.k, factor, operand(left, s.lda, s.op_a),
                                      operand(right, s.ldb, s.op_b), old, View<O>{out, 1, s.ldc});
        }
        return true;
    });
}

// Numbers of cudaDataType_t and cublasComputeType_t.
enum Type { f32 = 0, f64 = 1, f16 = 2, i8 = 3, c32 = 4, c64 = 5, ci8 = 7, i32 = 10, bf16 = 14 };
enum Compute {
    in_f16 = 64,
    in_f16_pedantic,
    in_f32 = 68,
    in_f32_pedantic,
    in_f64,
    in_f64_pedantic,
    in_i32,
    in_i32_pedantic,
    in_f32_fast_f16,
    in_f32_fast_bf16,
    in_f32_fast_tf32 = 77,
    in_f32_emulated = 78,
};

// Products of the types that the table of cublasGemmEx has; a compute type that allows less precision gets all of it.
int products_ex(Handle* handle, const char* label, Shape s, const void* alpha, const void* a, int type_a,
                long long stride_a, const void* b, int type_b, long long stride_b, const void* beta, void* c,
                int type_c, long long stride_c, int compute) {
    if (type_a != type_b) return unsupported;
    auto run = [&](auto sums, auto scalar, auto factor, auto out) {
        typedef decltype(sums) T;
        typedef decltype(scalar) S;
        typedef decltype(factor) E;
        typedef decltype(out) O;
        return products<T, S, E, O>(handle, label, s, (const S*)alpha, strided((const E*)a, stride_a),
                                    strided((const E*)b, stride_b), (const S*)beta, strided((O*)c, stride_c));
    };
    auto are = [&](int factors, int out) { return type_a == factors && type_c == out; };
    const float f = 0;
    const double d = 0;
    const Complex cf = 0;
    const DoubleComplex cd = 0;
    switch (compute) {
        case in_f16:
        case in_f16_pedantic:
            if (are(f16, f16)) return run(f, Half(), Half(), Half());
            break;
        case in_f32:
        case in_f32_pedantic:
            if (are(bf16, bf16)) return run(f, f, Bfloat16(), Bfloat16());
            if (are(f16, f16)) return run(f, f, Half(), Half());
            if (are(i8, f32)) return run(f, f, std::int8_t(), f);
            if (are(bf16, f32)) return run(f, f, Bfloat16(), f);
            if (are(f16, f32)) return run(f, f, Half(), f);
            if (are(ci8, c32)) return run(cf, cf, Int8Complex(), cf);
            [[fallthrough]];
        case in_f32_fast_f16:
        case in_f32_fast_bf16:
        case in_f32_fast_tf32:
        case in_f32_emulated:
            if (are(f32, f32)) return run(f, f, f, f);
            if (are(c32, c32)) return run(cf, cf, cf, cf);
            break;
        case in_f64:
        case in_f64_pedantic:
            if (are(f64, f64)) return run(d, d, d, d);
            if (are(c64, c64)) return run(cd, cd, cd, cd);
            break;
        case in_i32:
        case in_i32_pedantic: {
            if (!are(i8, i32)) break;
            const bool aligned = !(((std::intptr_t)a | (std::intptr_t)b | s.lda | s.ldb | stride_a | stride_b) & 3);
            const std::uint32_t u = 0;  // unsigned: sums go round at 2^32
            return aligned ? run(u, std::int32_t(), std::int8_t(), std::int32_t()) : unsupported;
        }
    }
    return unsupported;
}

// ---- vectors --------------------------------------------------------------------------------------------------------

template <class T> Vector<const T> reading(const T* x, Index n, Index step) { return {x, n, step}; }

template <class T, bool largest> int extreme(Handle* handle, int n, const T* x, int step, int* result) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    return give(handle, largest ? "amax" : "amin", result, [=](Reach& reach, int& out) {
        out = 0;
        if (n <= 0 || step <= 0) return true;
        if (!reach.vector(x, n, step)) return false;
        const auto v = reading(x, n, step);
        Real<T> best = size_of(v[0]);
        for (int i = 1; i < n; i++) {
            const Real<T> size = size_of(v[i]);
            if (largest ? size > best : size < best) best = size, out = i;
        }
        out++;
        return true;
    });
}

template <class T> int asum(Handle* handle, int n, const T* x, int step, Real<T>* result) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    return give(handle, "asum", result, [=](Reach& reach, Real<T>& out) {
        out = 0;
        if (n <= 0 || step <= 0) return true;
        if (!reach.vector(x, n, step)) return false;
        out = sum<Real<T>>(n, [=](Index i) { return size_of(x[i * step]); });
        return true;
    });
}

template <class T> int nrm2(Handle* handle, int n, const T* x, int step, Real<T>* result) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    return give(handle, "nrm2", result, [=](Reach& reach, Real<T>& out) {
        out = 0;
        if (n <= 0 || step <= 0) return true;
        if (!reach.vector(x, n, step)) return false;
        out = norm<T>(n, reading(x, n, step));
        return true;
    });
}

template <class T, bool conjugated>
int dot_product(Handle* handle, int n, const T* x, int step_x, const T* y, int step_y, T* result) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    return give(handle, "dot", result, [=](Reach& reach, T& out) {
        out = 0;
        if (n <= 0) return true;
        if (!reach.vector(x, n, step_x) || !reach.vector(y, n, step_y)) return false;
        out = dot<T>(n, reading(x, n, step_x), reading(y, n, step_y), conjugated);
        return true;
    });
}

template <class T> int axpy(Handle* handle, int n, const T* alpha_place, const T* x, int step_x, T* y, int step_y) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<T> alpha(handle, alpha_place);
    if (!alpha.given()) return bad_value;
    if (n <= 0) return done;
    return submit(handle, "axpy", [=](Reach& reach) {
        if (!alpha.reach(reach)) return false;
        const T factor = alpha();
        if (factor == T(0)) return true;
        if (!reach.vector(x, n, step_x) || !reach.vector(y, n, step_y)) return false;
        const auto from = reading(x, n, step_x);
        const Vector<T> to(y, n, step_y);
        for (int i = 0; i < n; i++) to[i] += factor * from[i];
        return true;
    });
}

// With a scalar of type S: that of the vector, or a real one.
template <class T, class S> int scal(Handle* handle, int n, const S* alpha_place, T* x, int step) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<S> alpha(handle, alpha_place);
    if (!alpha.given()) return bad_value;
    if (n <= 0 || step <= 0) return done;
    return submit(handle, "scal", [=](Reach& reach) {
        if (!alpha.reach(reach) || !reach.vector(x, n, step)) return false;
        const S factor = alpha();
        for (int i = 0; i < n; i++) x[(Index)i * step] *= factor;
        return true;
    });
}

// ---- a matrix and vectors -------------------------------------------------------------------------------------------

template <class T>
int gemv(Handle* handle, int op, int m, int n, const T* alpha_place, const T* a, int lda, const T* x, int step_x,
         const T* beta_place, T* y, int step_y) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<T> alpha(handle, alpha_place), beta(handle, beta_place);
    if (!is_operation(op) || m < 0 || n < 0 || !fits(lda, m) || !step_x || !step_y) return bad_value;
    if (!alpha.given() || !beta.given()) return bad_value;
    if (!m || !n) return done;
    return submit(handle, "gemv", [=](Reach& reach) {
        const int rows = op == plain ? m : n, columns = op == plain ? n : m;
        if (!alpha.reach(reach) || !beta.reach(reach)) return false;
        const T factor = alpha();
        if (factor != T(0) && (!reach.matrix(a, m, n, lda) || !reach.vector(x, columns, step_x))) return false;
        if (!reach.vector(y, rows, step_y)) return false;
        multiply_vector<T>(rows, columns, factor, operand(a, lda, op), reading(x, columns, step_x), beta(),
                           Vector<T>(y, rows, step_y));
        return true;
    });
}

template <class T, bool conjugated>
int ger(Handle* handle, int m, int n, const T* alpha_place, const T* x, int step_x, const T* y, int step_y, T* a,
        int lda) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<T> alpha(handle, alpha_place);
    if (m < 0 || n < 0 || !fits(lda, m) || !step_x || !step_y || !alpha.given()) return bad_value;
    if (!m || !n) return done;
    return submit(handle, "ger", [=](Reach& reach) {
        if (!alpha.reach(reach)) return false;
        if (alpha() == T(0)) return true;
        if (!reach.vector(x, m, step_x) || !reach.vector(y, n, step_y) || !reach.matrix(a, m, n, lda)) return false;
        const auto left = reading(x, m, step_x), right = reading(y, n, step_y);
        for (int j = 0; j < n; j++) {
            const T factor = alpha() * (conjugated ? conjugate(right[j]) : right[j]);
            T* column = a + (Index)j * lda;
            for (int i = 0; i < m; i++) column[i] += left[i] * factor;
        }
        return true;
    });
}

template <class T>
int sbmv(Handle* handle, int uplo, int n, int k, const T* alpha_place, const T* a, int lda, const T* x, int step_x,
         const T* beta_place, T* y, int step_y) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<T> alpha(handle, alpha_place), beta(handle, beta_place);
    if ((uplo != lower && uplo != upper) || n < 0 || k < 0 || lda < k + 1 || !step_x || !step_y) return bad_value;
    if (!alpha.given() || !beta.given()) return bad_value;
    if (!n) return done;
    return submit(handle, "sbmv", [=](Reach& reach) {
        if (!alpha.reach(reach) || !beta.reach(reach)) return false;
        const T factor = alpha(), old = beta();
        if (factor != T(0) && (!reach.matrix(a, k + 1, n, lda) || !reach.vector(x, n, step_x))) return false;
        if (!reach.vector(y, n, step_y)) return false;
        const auto from = reading(x, n, step_x);
        const Vector<T> to(y, n, step_y);
        for (int i = 0; i < n; i++) {
            T total = 0;
            if (factor != T(0))
                for (int j = std::max(0, i - k); j <= std::min(n - 1, i + k); j++) {
                    const int column = uplo == upper ? std::max(i, j) : std::min(i, j), off = std::abs(i - j);
                    total += a[(uplo == upper ? k - off : off) + (Index)column * lda] * from[j];
                }
            to[i] = factor * total + (old == T(0) ? T(0) : old * to[i]);
        }
        return true;
    });
}

// ---- matrices -------------------------------------------------------------------------------------------------------

template <class T>
int gemm(Handle* handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a, int lda, const T* b,
         int ldb, const T* beta, T* c, int ldc) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    const Shape shape{op_a, op_b, m, n, k, lda, ldb, ldc, 1};
    return products<T, T, T, T>(handle, "gemm", shape, alpha, one(a), one(b), beta, one(c));
}

template <class T>
int gemm_listed(Handle* handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* const* a, int lda,
                const T* const* b, int ldb, const T* beta, T* const* c, int ldc, int count) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    const Shape shape{op_a, op_b, m, n, k, lda, ldb, ldc, count};
    return products<T, T, T, T>(handle, "gemm", shape, alpha, listed(a), listed(b), beta, listed(c));
}

template <class T>
int gemm_strided(Handle* handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a, int lda,
                 long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c, int ldc,
                 long long stride_c, int count) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    const Shape shape{op_a, op_b, m, n, k, lda, ldb, ldc, count};
    return products<T, T, T, T>(handle, "gemm", shape, alpha, strided(a, stride_a), strided(b, stride_b), beta,
                                strided(c, stride_c));
}

template <class T>
int geam(Handle* handle, int op_a, int op_b, int m, int n, const T* alpha_place, const T* a, int lda,
         const T* beta_place, const T* b, int ldb, T* c, int ldc) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<T> alpha(handle, alpha_place), beta(handle, beta_place);
    if (!is_operation(op_a) || !is_operation(op_b) || m < 0 || n < 0 || !alpha.given() || !beta.given())
        return bad_value;
    if (!fits(lda, op_a == plain ? m : n) || !fits(ldb, op_b == plain ? m : n) || !fits(ldc, m)) return bad_value;
    if ((c == a && (lda != ldc || op_a != plain)) || (c == b && (ldb != ldc || op_b != plain))) return bad_value;
    if (!m || !n) return done;
    return submit(handle, "geam", [=](Reach& reach) {
        if (!alpha.reach(reach) || !beta.reach(reach)) return false;
        const T left = alpha(), right = beta();
        auto reaches = [&](auto* data, int op, int ld) {
            return reach.matrix(data, op == plain ? m : n, op == plain ? n : m, ld);
        };
        if (left != T(0) && !reaches(a, op_a, lda)) return false;
        if (right != T(0) && !reaches(b, op_b, ldb)) return false;
        if (!reaches(c, plain, ldc)) return false;
        const auto x = operand(a, lda, op_a), y = operand(b, ldb, op_b);
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                T total = 0;
                if (left != T(0)) total += left * (x.conjugated ? conjugate(x(i, j)) : x(i, j));
                if (right != T(0)) total += right * (y.conjugated ? conjugate(y(i, j)) : y(i, j));
                c[i + (Index)j * ldc] = total;
            }
        return true;
    });
}

template <class T>
int dgmm(Handle* handle, int side, int m, int n, const T* a, int lda, const T* x, int step, T* c, int ldc) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    if ((side != on_left && side != on_right) || m < 0 || n < 0 || !fits(lda, m) || !fits(ldc, m)) return bad_value;
    if (!m || !n) return done;
    return submit(handle, "dgmm", [=](Reach& reach) {
        const int count = side == on_left ? m : n;
        if (!reach.matrix(a, m, n, lda) || !reach.vector(x, count, step) || !reach.matrix(c, m, n, ldc)) return false;
        const auto diagonal = reading(x, count, step);
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++)
                c[i + (Index)j * ldc] = a[i + (Index)j * lda] * diagonal[side == on_left ? i : j];
        return true;
    });
}

template <class T>
int syrk(Handle* handle, int uplo, int op, int n, int k, const T* alpha_place, const T* a, int lda,
         const T* beta_place, T* c, int ldc) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    Scalar<T> alpha(handle, alpha_place), beta(handle, beta_place);
    if ((uplo != lower && uplo != upper) || !is_operation(op) || (is_complex<T> && op == adjoint)) return bad_value;
    if (n < 0 || k < 0 || !fits(lda, op == plain ? n : k) || !fits(ldc, n)) return bad_value;
    if (!alpha.given() || !beta.given()) return bad_value;
    if (!n) return done;
    return submit(handle, "syrk", [=](Reach& reach) {
        if (!alpha.reach(reach) || !beta.reach(reach)) return false;
        const T factor = alpha();
        if (factor != T(0) && !reach.matrix(a, op == plain ? n : k, op == plain ? k : n, lda)) return false;
        if (!reach.triangle(c, uplo == lower, n, ldc)) return false;
        rank_update<T>(uplo == lower, n, k, factor, operand(a, lda, op), beta(), View<T>{c, 1, ldc});
        return true;
    });
}

template <class T>
int solve_triangles(Handle* handle, int side, int uplo, int op, int diagonal, int m, int n, const T* alpha_place,
                    Batch<const T> a, int lda, Batch<T> b, int ldb, int count) {
    Scalar<T> alpha(handle, alpha_place);
    if ((side != on_left && side != on_right) || (uplo != lower && uplo != upper)) return bad_value;
    if (!is_operation(op) || (diagonal != 0 && diagonal != 1)) return bad_value;
    if (m < 0 || n < 0 || count < 0 || !alpha.given()) return bad_value;
    const int order = side == on_left ? m : n;
    if (!fits(lda, order) || !fits(ldb, m)) return bad_value;
    if (!m || !n || !count) return done;
    return submit(handle, "trsm", [=](Reach& reach) {
        if (!alpha.reach(reach) || !a.reach(reach, count) || !b.reach(reach, count)) return false;
        const T factor = alpha();
        for (int i = 0; i < count; i++) {
            const T* triangle = a[i];
            T* out = b[i];
            if (factor != T(0) && !reach.matrix(triangle, order, order, lda)) return false;
            if (!reach.matrix(out, m, n, ldb)) return false;
            View<T> right{out, 1, ldb};
            scale<T>(m, n, factor, right);
            if (factor == T(0)) continue;
            // x op(A) = b is op(A)^T x^T = b^T.
            auto left = operand(triangle, lda, op);
            bool is_lower = (uplo == lower) == (op == plain);
            if (side == on_right) left = left.transposed(), right = right.transposed(), is_lower = !is_lower;
            solve_triangle<T>(is_lower, diagonal == 1, order, side == on_left ? n : m, left, right);
        }
        return true;
    });
}

template <class T>
int trsm(Handle* handle, int side, int uplo, int op, int diagonal, int m, int n, const T* alpha, const T* a, int lda,
         T* b, int ldb) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    return solve_triangles(handle, side, uplo, op, diagonal, m, n, alpha, one(a), lda, one(b), ldb, 1);
}

template <class T>
int trsm_listed(Handle* handle, int side, int uplo, int op, int diagonal, int m, int n, const T* alpha,
                const T* const* a, int lda, T* const* b, int ldb, int count) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    return solve_triangles(handle, side, uplo, op, diagonal, m, n, alpha, listed(a), lda, listed(b), ldb, count);
}

// ---- factors --------------------------------------------------------------------------------------------------------

template <class T> int getrf(Handle* handle, int n, T* const* a, int lda, int* pivots, int* info, int count) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    if (n < 0 || count < 0 || !fits(lda, n)) return bad_value;
    if (!count) return done;
    return submit(handle, "getrf", [=](Reach& reach) {
        if (!reach(a, count) || !reach(info, count) || (pivots && !reach(pivots, (Index)n * count))) return false;
        for (int i = 0; i < count; i++) {
            if (!reach.matrix(a[i], n, n, lda)) return false;
            info[i] = factorise<T>(n, View<T>{a[i], 1, lda}, pivots ? pivots + (Index)i * n : nullptr);
        }
        return true;
    });
}

// Whether row numbers are such: what else is there would have rows swapped that are not there.
bool are_pivots(Reach& reach, const int* pivots, int n) {
    if (!reach(pivots, n)) return false;
    for (int i = 0; i < n; i++)
        if (pivots[i] < 1 || pivots[i] > n) return reach((const char*)nullptr, 1);
    return true;
}

template <class T>
int getri(Handle* handle, int n, const T* const* a, int lda, const int* pivots, T* const* c, int ldc, int* info,
          int count) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    if (n < 0 || count < 0 || !fits(lda, n) || !fits(ldc, n)) return bad_value;
    if (!count) return done;
    return submit(handle, "getri", [=](Reach& reach) {
        if (!reach(a, count) || !reach(c, count) || !reach(info, count)) return false;
        for (int i = 0; i < count; i++) {
            const int* rows = pivots ? pivots + (Index)i * n : nullptr;
            if (!reach.matrix(a[i], n, n, lda) || !reach.matrix(c[i], n, n, ldc)) return false;
            if (rows && !are_pivots(reach, rows, n)) return false;
            info[i] = invert<T>(n, View<const T>{a[i], 1, lda}, rows, View<T>{c[i], 1, ldc});
        }
        return true;
    });
}

// `info` is the host's here: which argument is wrong.
template <class T>
int getrs(Handle* handle, int op, int n, int columns, const T* const* a, int lda, const int* pivots, T* const* b,
          int ldb, int* info, int count) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    if (!info) return bad_value;
    *info = !is_operation(op) ? -1 : n < 0 ? -2 : columns < 0 ? -3 : !fits(lda, n) ? -5 : !fits(ldb, n) ? -8 : 0;
    if (!*info && count < 0) *info = -10;
    if (*info) return bad_value;
    if (!n || !columns || !count) return done;
    return submit(handle, "getrs", [=](Reach& reach) {
        if (!reach(a, count) || !reach(b, count)) return false;
        for (int i = 0; i < count; i++) {
            const int* rows = pivots ? pivots + (Index)i * n : nullptr;
            if (!reach.matrix(a[i], n, n, lda) || !reach.matrix(b[i], n, columns, ldb)) return false;
            if (rows && !are_pivots(reach, rows, n)) return false;
            solve_factorised<T>(op != plain, is_complex<T> && op == adjoint, n, columns, View<const T>{a[i], 1, lda},
                                rows, View<T>{b[i], 1, ldb});
        }
        return true;
    });
}

// ---- packed triangles -----------------------------------------------------------------------------------------------

// Copies each element of a triangle and its packed form by move(packed, element).
template <class P, class A, class F>
int repack(Handle* handle, const char* label, int uplo, int n, P* packed, A* a, int lda, F move) {
    if (!known(handle)) return not_initialized;
    if ((uplo != lower && uplo != upper) || n < 0 || !fits(lda, n)) return bad_value;
    if (!n) return done;
    return submit(handle, label, [=](Reach& reach) {
        if (!reach(packed, (Index)n * (n + 1) / 2) || !reach.triangle(a, uplo == lower, n, lda)) return false;
        P* next = packed;
        for (int j = 0; j < n; j++) {
            const int begin = uplo == lower ? j : 0, end = uplo == lower ? n : j + 1;
            for (int i = begin; i < end; i++) move(*next++, a[i + (Index)j * lda]);
        }
        return true;
    });
}

template <class T> int tpttr(Handle* handle, int uplo, int n, const T* packed, T* a, int lda) {
    Lock lock;
    return repack(handle, "tpttr", uplo, n, packed, a, lda, [](const T& from, T& to) { to = from; });
}

template <class T> int trttp(Handle* handle, int uplo, int n, const T* a, int lda, T* packed) {
    Lock lock;
    return repack(handle, "trttp", uplo, n, packed, a, lda, [](T& to, const T& from) { to = from; });
}

}  // namespace

}  // namespace gpunn_device

using namespace gpunn_device;

// ---- handles --------------------------------------------------------------------------------------------------------

GPUNN_API int cublasCreate_v2(Handle** out) {
    Lock lock;
    if (!out) return bad_value;
    if (is_broken()) return not_initialized;
    if (unsafe_in_capture()) return alloc_failed;  // it allocates a workspace
    Handle* handle = new Handle;
    handle->device = current_device();
    handles.insert(handle);
    *out = handle;
    return done;
}

GPUNN_API int cublasDestroy_v2(Handle* handle) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    device_synchronize();
    handles.erase(handle);
    delete handle;
    return done;
}

GPUNN_API int cublasGetVersion_v2(Handle*, int* version) {
    if (!version) return bad_value;
    *version = settings.version / 1000 * 10000 + settings.version % 1000 / 10 * 100;
    return done;
}

// Sets or gets one thing of a handle.
template <class F> static int with(Handle* handle, bool valid, F f) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    if (!valid) return bad_value;
    f();
    return done;
}

GPUNN_API int cublasSetStream_v2(Handle* handle, std::intptr_t stream) {
    return with(handle, true, [=] { handle->stream = stream; });
}
GPUNN_API int cublasGetStream_v2(Handle* handle, std::intptr_t* stream) {
    return with(handle, stream, [=] { *stream = handle->stream; });
}
GPUNN_API int cublasSetPointerMode_v2(Handle* handle, int mode) {
    return with(handle, mode == 0 || mode == 1, [=] { handle->scalars_on_device = mode; });
}
GPUNN_API int cublasGetPointerMode_v2(Handle* handle, int* mode) {
    return with(handle, mode, [=] { *mode = handle->scalars_on_device; });
}
// Kept, and told when asked; what it allows to be less precise is as precise as ever.
GPUNN_API int cublasSetMathMode(Handle* handle, int mode) {
    const int reduced_precision_reduction = 16;
    return with(handle, (mode & ~reduced_precision_reduction) >= 0 && (mode & ~reduced_precision_reduction) <= 4,
                [=] { handle->math_mode = mode; });
}
GPUNN_API int cublasGetMathMode(Handle* handle, int* mode) {
    return with(handle, mode, [=] { *mode = handle->math_mode; });
}

// ---- functions of every type ------------------------------------------------------------------------------------

// P and p are the letter of a type T.
#define EVERY(P, p, T)                                                                                                 \
    GPUNN_API int cublas##P##axpy_v2(Handle* h, int n, const T* alpha, const T* x, int incx, T* y, int incy) {         \
        return axpy<T>(h, n, alpha, x, incx, y, incy);                                                                 \
    }                                                                                                                  \
    GPUNN_API int cublas##P##scal_v2(Handle* h, int n, const T* alpha, T* x, int incx) {                               \
        return scal<T, T>(h, n, alpha, x, incx);                                                                       \
    }                                                                                                                  \
    GPUNN_API int cublasI##p##amax_v2(Handle* h, int n, const T* x, int incx, int* result) {                           \
        return extreme<T, true>(h, n, x, incx, result);                                                                \
    }                                                                                                                  \
    GPUNN_API int cublasI##p##amin_v2(Handle* h, int n, const T* x, int incx, int* result) {                           \
        return extreme<T, false>(h, n, x, incx, result);                                                               \
    }                                                                                                                  \
    GPUNN_API int cublas##P##gemv_v2(Handle* h, int op, int m, int n, const T* alpha, const T* a, int lda, const T* x, \
        int incx, const T* beta, T* y, int incy) {                                                                     \
        return gemv<T>(h, op, m, n, alpha, a, lda, x, incx, beta, y, incy);                                            \
    }                                                                                                                  \
    GPUNN_API int cublas##P##gemm_v2(Handle* h, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a,   \
        int lda, const T* b, int ldb, const T* beta, T* c, int ldc) {                                                  \
        return gemm<T>(h, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                                   \
    }                                                                                                                  \
    GPUNN_API int cublas##P##gemmBatched(Handle* h, int op_a, int op_b, int m, int n, int k, const T* alpha,           \
        const T* const* a, int lda, const T* const* b, int ldb, const T* beta, T* const* c, int ldc, int count) {      \
        return gemm_listed<T>(h, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count);                     \
    }                                                                                                                  \
    GPUNN_API int cublas##P##gemmStridedBatched(Handle* h, int op_a, int op_b, int m, int n, int k, const T* alpha,    \
        const T* a, int lda, long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, T* c,         \
        int ldc, long long stride_c, int count) {                                                                      \
        return gemm_strided<T>(h, op_a, op_b, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, ldc,        \
            stride_c, count);                                                                                          \
    }                                                                                                                  \
    GPUNN_API int cublas##P##geam(Handle* h, int op_a, int op_b, int m, int n, const T* alpha, const T* a, int lda,    \
        const T* beta, const T* b, int ldb, T* c, int ldc) {                                                           \
        return geam<T>(h, op_a, op_b, m, n, alpha, a, lda, beta, b, ldb, c, ldc);                                      \
    }                                                                                                                  \
    GPUNN_API int cublas##P##dgmm(Handle* h, int side, int m, int n, const T* a, int lda, const T* x, int incx, T* c,  \
        int ldc) {                                                                                                     \
        return dgmm<T>(h, side, m, n, a, lda, x, incx, c, ldc);                                                        \
    }                                                                                                                  \
    GPUNN_API int cublas##P##syrk_v2(Handle* h, int uplo, int op, int n, int k, const T* alpha, const T* a, int lda,   \
        const T* beta, T* c, int ldc) {                                                                                \
        return syrk<T>(h, uplo, op, n, k, alpha, a, lda, beta, c, ldc);                                                \
    }                                                                                                                  \
    GPUNN_API int cublas##P##trsm_v2(Handle* h, int side, int uplo, int op, int diagonal, int m, int n,                \
        const T* alpha, const T* a, int lda, T* b, int ldb) {                                                          \
        return trsm<T>(h, side, uplo, op, diagonal, m, n, alpha, a, lda, b, ldb);                                      \
    }                                                                                                                  \
    GPUNN_API int cublas##P##trsmBatched(Handle* h, int side, int uplo, int op, int diagonal, int m, int n,            \
        const T* alpha, const T* const* a, int lda, T* const* b, int ldb, int count) {                                 \
        return trsm_listed<T>(h, side, uplo, op, diagonal, m, n, alpha, a, lda, b, ldb, count);                        \
    }                                                                                                                  \
    GPUNN_API int cublas##P##getrfBatched(Handle* h, int n, T* const* a, int lda, int* pivots, int* info, int count) { \
        return getrf<T>(h, n, a, lda, pivots, info, count);                                                            \
    }                                                                                                                  \
    GPUNN_API int cublas##P##getriBatched(Handle* h, int n, const T* const* a, int lda, const int* pivots,             \
        T* const* c, int ldc, int* info, int count) {                                                                  \
        return getri<T>(h, n, a, lda, pivots, c, ldc, info, count);                                                    \
    }                                                                                                                  \
    GPUNN_API int cublas##P##getrsBatched(Handle* h, int op, int n, int columns, const T* const* a, int lda,           \
        const int* pivots, T* const* b, int ldb, int* info, int count) {                                               \
        return getrs<T>(h, op, n, columns, a, lda, pivots, b, ldb, info, count);                                       \
    }
EVERY(S, s, float)
EVERY(D, d, double)
EVERY(C, c, Complex)
EVERY(Z, z, DoubleComplex)

// ---- functions of the real types --------------------------------------------------------------------------------

#define REAL(P, T)                                                                                                     \
    GPUNN_API int cublas##P##asum_v2(Handle* h, int n, const T* x, int incx, T* result) {                              \
        return asum<T>(h, n, x, incx, result);                                                                         \
    }                                                                                                                  \
    GPUNN_API int cublas##P##nrm2_v2(Handle* h, int n, const T* x, int incx, T* result) {                              \
        return nrm2<T>(h, n, x, incx, result);                                                                         \
    }                                                                                                                  \
    GPUNN_API int cublas##P##dot_v2(Handle* h, int n, const T* x, int incx, const T* y, int incy, T* result) {         \
        return dot_product<T, false>(h, n, x, incx, y, incy, result);                                                  \
    }                                                                                                                  \
    GPUNN_API int cublas##P##ger_v2(Handle* h, int m, int n, const T* alpha, const T* x, int incx, const T* y,         \
        int incy, T* a, int lda) {                                                                                     \
        return ger<T, false>(h, m, n, alpha, x, incx, y, incy, a, lda);                                                \
    }                                                                                                                  \
    GPUNN_API int cublas##P##sbmv_v2(Handle* h, int uplo, int n, int k, const T* alpha, const T* a, int lda,           \
        const T* x, int incx, const T* beta, T* y, int incy) {                                                         \
        return sbmv<T>(h, uplo, n, k, alpha, a, lda, x, incx, beta, y, incy);                                          \
    }                                                                                                                  \
    GPUNN_API int cublas##P##tpttr(Handle* h, int uplo, int n, const T* packed, T* a, int lda) {                       \
        return tpttr<T>(h, uplo, n, packed, a, lda);                                                                   \
    }                                                                                                                  \
    GPUNN_API int cublas##P##trttp(Handle* h, int uplo, int n, const T* a, int lda, T* packed) {                       \
        return trttp<T>(h, uplo, n, a, lda, packed);                                                                   \
    }
REAL(S, float)
REAL(D, double)

// ---- functions of the complex types -----------------------------------------------------------------------------

// P and p are the letter of a complex type T, R and r that of its real numbers.
#define COMPLEX(P, p, R, r, T)                                                                                         \
    GPUNN_API int cublas##R##p##asum_v2(Handle* h, int n, const T* x, int incx, Real<T>* result) {                     \
        return asum<T>(h, n, x, incx, result);                                                                         \
    }                                                                                                                  \
    GPUNN_API int cublas##R##p##nrm2_v2(Handle* h, int n, const T* x, int incx, Real<T>* result) {                     \
        return nrm2<T>(h, n, x, incx, result);                                                                         \
    }                                                                                                                  \
    GPUNN_API int cublas##P##r##scal_v2(Handle* h, int n, const Real<T>* alpha, T* x, int incx) {                      \
        return scal<T, Real<T>>(h, n, alpha, x, incx);                                                                 \
    }                                                                                                                  \
    GPUNN_API int cublas##P##dotu_v2(Handle* h, int n, const T* x, int incx, const T* y, int incy, T* result) {        \
        return dot_product<T, false>(h, n, x, incx, y, incy, result);                                                  \
    }                                                                                                                  \
    GPUNN_API int cublas##P##dotc_v2(Handle* h, int n, const T* x, int incx, const T* y, int incy, T* result) {        \
        return dot_product<T, true>(h, n, x, incx, y, incy, result);                                                   \
    }                                                                                                                  \
    GPUNN_API int cublas##P##geru_v2(Handle* h, int m, int n, const T* alpha, const T* x, int incx, const T* y,        \
        int incy, T* a, int lda) {                                                                                     \
        return ger<T, false>(h, m, n, alpha, x, incx, y, incy, a, lda);                                                \
    }                                                                                                                  \
    GPUNN_API int cublas##P##gerc_v2(Handle* h, int m, int n, const T* alpha, const T* x, int incx, const T* y,        \
        int incy, T* a, int lda) {                                                                                     \
        return ger<T, true>(h, m, n, alpha, x, incx, y, incy, a, lda);                                                 \
    }
COMPLEX(C, c, S, s, Complex)
COMPLEX(Z, z, D, d, DoubleComplex)

// ---- products of mixed types ------------------------------------------------------------------------------------

GPUNN_API int cublasSgemmEx(Handle* handle, int op_a, int op_b, int m, int n, int k, const float* alpha, const void* a,
                            int type_a, int lda, const void* b, int type_b, int ldb, const float* beta, void* c,
                            int type_c, int ldc) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    if (type_a == c32 || type_a == ci8) return unsupported;
    const Shape shape{op_a, op_b, m, n, k, lda, ldb, ldc, 1};
    return products_ex(handle, "gemm", shape, alpha, a, type_a, 0, b, type_b, 0, beta, c, type_c, 0, in_f32);
}

GPUNN_API int cublasGemmEx(Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                           int type_a, int lda, const void* b, int type_b, int ldb, const void* beta, void* c,
                           int type_c, int ldc, int compute, int) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    const Shape shape{op_a, op_b, m, n, k, lda, ldb, ldc, 1};
    return products_ex(handle, "gemm", shape, alpha, a, type_a, 0, b, type_b, 0, beta, c, type_c, 0, compute);
}

GPUNN_API int cublasGemmStridedBatchedEx(Handle* handle, int op_a, int op_b, int m, int n, int k, const void* alpha,
                                         const void* a, int type_a, int lda, long long stride_a, const void* b,
                                         int type_b, int ldb, long long stride_b, const void* beta, void* c, int type_c,
                                         int ldc, long long stride_c, int count, int compute, int) {
    Lock lock;
    if (!known(handle)) return not_initialized;
    const Shape shape{op_a, op_b, m, n, k, lda, ldb, ldc, count};
    return products_ex(handle, "gemm", shape, alpha, a, type_a, stride_a, b, type_b, stride_b, beta, c, type_c,
                       stride_c, compute);
}
