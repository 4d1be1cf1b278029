#include "shared_layout.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <unordered_map>

namespace gpunn_emulator {

namespace {

// In a function, by the Itanium C++ ABI, and outside of all.
bool is_guard(const char* name) { return !std::strncmp(name, "_ZGV", 4) || !std::strcmp(name, "__tls_guard"); }

SharedLayout read_layout(const std::string& file) {
    SharedLayout found;
    if (file.size() < sizeof(ElfW(Ehdr)) || std::memcmp(file.data(), ELFMAG, SELFMAG)) return found;
    const char* begin = file.data();
    const ElfW(Ehdr)& header = *(const ElfW(Ehdr)*)begin;
    auto inside = [&](std::size_t offset, std::size_t bytes) {
        return offset <= file.size() && bytes <= file.size() - offset;
    };
    if (!inside(header.e_shoff, header.e_shnum * sizeof(ElfW(Shdr)))) return found;
    const ElfW(Shdr)* sections = (const ElfW(Shdr)*)(begin + header.e_shoff);
    for (unsigned i = 0; i < header.e_shnum; i++) {
        const ElfW(Shdr)& table = sections[i];
        if (table.sh_type != SHT_SYMTAB || table.sh_link >= header.e_shnum) continue;
        const ElfW(Shdr)& names = sections[table.sh_link];
        if (!inside(table.sh_offset, table.sh_size) || !inside(names.sh_offset, names.sh_size)) continue;
        const ElfW(Sym)* symbols = (const ElfW(Sym)*)(begin + table.sh_offset);
        for (std::size_t k = 0; k < table.sh_size / sizeof(ElfW(Sym)); k++) {
            if ((symbols[k].st_info & 0xf) != STT_TLS || symbols[k].st_name >= names.sh_size) continue;
            std::size_t at = symbols[k].st_value;
            if (is_guard(begin + names.sh_offset + symbols[k].st_name)) found.guards.push_back(at);
            else if (symbols[k].st_size) found.variables.push_back({at, at + symbols[k].st_size});
        }
    }
    std::sort(found.guards.begin(), found.guards.end());
    std::sort(found.variables.begin(), found.variables.end(),
              [](const Span& a, const Span& b) { return a.begin < b.begin; });
    return found;
}

}  // namespace

const SharedLayout& shared_layout_of(const char* base) {
    static std::unordered_map<std::string, SharedLayout> known;  // one thread checks at a time
    Dl_info info;
    std::string path = dladdr(base, &info) && info.dli_fname ? info.dli_fname : "";
    auto found = known.find(path);
    if (found != known.end()) return found->second;
    std::ifstream file(path, std::ios::binary);
    std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return known[path] = read_layout(content);
}

}  // namespace gpunn_emulator
