"""The list of what the emulator covers is that of its headers and tables."""

from gpunn.cuda.emulator import __main__, build, coverage


def test_the_page_is_up_to_date():
    written = coverage.PAGE.read_text(encoding="utf-8")
    assert written == coverage.page(), "run python -m gpunn.cuda.emulator coverage --markdown"


def test_the_command_prints_the_page_or_writes_it(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(coverage, "page", lambda: "# All\n")
    assert __main__.main(["coverage"]) == 0
    assert capsys.readouterr().out == "# All\n"
    monkeypatch.setattr(coverage, "PAGE", tmp_path / "page.md")
    assert __main__.main(["coverage", "--markdown"]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "# All\n"


def test_names_are_found_however_they_are_declared(tmp_path, monkeypatch):
    (tmp_path / "gpunn_emulator.h").write_text('#include "gpunn_emulator/first.h"\n')
    (tmp_path / "gpunn_emulator").mkdir()
    (tmp_path / "gpunn_emulator" / "first.h").write_text("""
#pragma once
#define MADE(name) inline int name##_made(int x) { return x; }
MADE(one) MADE(two)
namespace gpunn_emulator { struct inner { int hidden(); }; int hidden_too(); }
template <class T, int N = (3 > 2)> __attribute__((always_inline)) inline T many(T (*f)(int), T x) { return f(x + N); }
typedef unsigned word;
""")
    (tmp_path / "groups.h").write_text("""
#include "gpunn_emulator/first.h"
namespace groups {
class warp {
    int secret() const;
public:
    warp(int x) : x_(x), y_(x) {}
    int rank() const { return helper(x_); }
    bool operator==(const warp&) const;
private:
    int x_, y_;
};
using lanes = warp;
__attribute__((error("not here"))) void sync(const warp&);
enum class color : int { red };
struct later;
}
""")
    monkeypatch.setattr(build, "INCLUDE", tmp_path)
    (first,) = coverage.declared("").values()
    assert first.functions == {"one_made", "two_made", "many"}
    assert (first.types, first.macros) == ({"word": set()}, {"MADE"})
    (groups,) = coverage.declared("groups.h").values()
    assert groups.types == {"warp": {"rank"}, "lanes": set(), "color": set()}
    assert (groups.functions, groups.refused) == (set(), {"sync(const warp&)": "not here"})
