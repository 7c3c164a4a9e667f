/* An LSTM in C, held to the golden vectors: it shows how to read them.

   cc reader.c -lm -o reader
   ./reader lstm.json        the largest difference from each vector
   ./reader < one.json       answers one vector, as `lstmbook verify --command` asks it

   The files are JSON of objects, arrays, numbers and strings. All that is needed here is to find
   a member of an object, and to read a nested array as a flat one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096 }; /* numbers of one array */

static const char *space(const char *s) { return s + strspn(s, " \n\r\t,:"); }

static const char *end(const char *s) /* of the value that begins at s */
{
    int depth = 0;
    s = space(s);
    do {
        if (*s == '"')
            for (s++; *s != '"'; s++) s += *s == '\\';
        depth += (*s == '{' || *s == '[') - (*s == '}' || *s == ']');
        s++;
    } while (*s && (depth > 0 || !strchr(",]} \n\r\t:", *s)));
    return s;
}

static const char *member(const char *s, const char *name) /* its value, or NULL */
{
    size_t n = strlen(name);
    for (s = space(space(s) + 1); *s == '"'; s = space(end(end(s))))
        if (!strncmp(s + 1, name, n) && s[n + 1] == '"') return space(end(s));
    return NULL;
}

static int numbers(const char *s, double *out) /* all numbers of a nested array; how many */
{
    int count = 0;
    const char *stop = end(s);
    while ((s += strspn(s, "[], \n\r\t")) < stop && count < MOST)
        out[count++] = strtod(s, (char **)&s);
    return count;
}

static int rows(const char *s) /* the length of an array */
{
    int count = 0;
    for (s = space(space(s) + 1); *s != ']'; s = space(end(s))) count++;
    return count;
}

static double W_x[MOST], W_h[MOST], b[MOST], xs[MOST], lengths[MOST];
static double h[MOST], c[MOST], hs[MOST], old[MOST], want[MOST];
static int batch, time_, input, hidden;

static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

static double sum(int gate, const double *x, int k) /* W_x is (gate, input, hidden) */
{
    double z = b[gate * hidden + k];
    for (int j = 0; j < input; j++) z += x[j] * W_x[(gate * input + j) * hidden + k];
    for (int j = 0; j < hidden; j++) z += old[j] * W_h[(gate * hidden + j) * hidden + k];
    return z;
}

static void run(const char *given) /* fills hs; h and c become the final state */
{
    const char *p = member(given, "params"), *state = member(given, "state");
    numbers(member(p, "W_x"), W_x), numbers(member(p, "W_h"), W_h);
    hidden = numbers(member(p, "b"), b) / 4;
    batch = numbers(member(given, "lengths"), lengths);
    time_ = rows(space(member(given, "xs") + 1));
    input = numbers(member(given, "xs"), xs) / batch / time_;
    numbers(member(state, "h"), h), numbers(member(state, "c"), c);
    for (int row = 0; row < batch; row++)
        for (int t = 0; t < time_; t++) {
            double *out = hs + (row * time_ + t) * hidden;
            memset(out, 0, hidden * sizeof *out);
            if (t >= lengths[row]) continue;
            memcpy(old, h + row * hidden, hidden * sizeof *old);
            for (int k = 0; k < hidden; k++) {
                const double *x = xs + (row * time_ + t) * input;
                double i = sigmoid(sum(0, x, k)), f = sigmoid(sum(1, x, k));
                double g = tanh(sum(2, x, k)), o = sigmoid(sum(3, x, k));
                double *cell = c + row * hidden + k;
                *cell = f * *cell + i * g;
                out[k] = h[row * hidden + k] = o * tanh(*cell);
            }
        }
}

static double difference(const char *expected, const double *a)
{
    double worst = 0;
    for (int k = numbers(expected, want) - 1; k >= 0; k--)
        if (!(fabs(a[k] - want[k]) <= worst)) worst = fabs(a[k] - want[k]);
    return worst;
}

static void print(const double *a, int depth, const int *sizes) /* a nested array */
{
    int size = 1;
    for (int k = 1; k < depth; k++) size *= sizes[k];
    for (int k = 0; k < sizes[0]; k++) {
        putchar(k ? ',' : '[');
        if (depth == 1) printf("%.17g", a[k]);
        else print(a + k * size, depth - 1, sizes + 1);
    }
    putchar(']');
}

int main(int argc, char **argv)
{
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : stdin;
    static char text[1 << 20];
    if (!file || !fread(text, 1, sizeof text - 1, file)) return perror("reader"), 2;
    if (argc < 2) {
        run(member(text, "given"));
        int all[] = {batch, time_, hidden}, last[] = {batch, hidden};
        printf("{\"hs\":"), print(hs, 3, all);
        printf(",\"final\":{\"h\":"), print(h, 2, last);
        printf(",\"c\":"), print(c, 2, last), puts("}}");
        return 0;
    }
    int wrong = 0;
    const char *v = member(text, "vectors");
    for (v = space(v + 1); *v == '{'; v = space(end(v))) {
        const char *expected = member(v, "expected"), *final = member(expected, "final");
        run(member(v, "given"));
        double off = difference(member(expected, "hs"), hs);
        off = fmax(off, fmax(difference(member(final, "h"), h), difference(member(final, "c"), c)));
        printf("%-12.*s max |Δ| = %.1e\n", (int)(strcspn(member(v, "name") + 1, "\"")),
               member(v, "name") + 1, off);
        wrong |= !(off <= 1e-12);
    }
    return wrong;
}
