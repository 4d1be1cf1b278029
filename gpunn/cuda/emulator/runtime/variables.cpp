#include "variables.h"

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

// Sections whose variables have gaps behind them; those of constant memory alone are in a section of their name.
bool has_gaps(const std::string& section) {
    return section == ".data" || section == ".bss" || section == "gpunn_constant";
}

Variables read_variables(const std::string& file) {
    Variables found;
    if (file.size() < sizeof(ElfW(Ehdr)) || std::memcmp(file.data(), ELFMAG, SELFMAG)) return found;
    const char* begin = file.data();
    const ElfW(Ehdr)& header = *(const ElfW(Ehdr)*)begin;
    auto inside = [&](std::size_t offset, std::size_t bytes) {
        return offset <= file.size() && bytes <= file.size() - offset;
    };
    if (!inside(header.e_shoff, header.e_shnum * sizeof(ElfW(Shdr)))) return found;
    const ElfW(Shdr)* sections = (const ElfW(Shdr)*)(begin + header.e_shoff);
    if (header.e_shstrndx >= header.e_shnum) return found;
    auto name_of = [&](const ElfW(Shdr)& section) {
        std::size_t at = sections[header.e_shstrndx].sh_offset + section.sh_name;
        return at < file.size() ? std::string(begin + at) : std::string();
    };
    std::vector<bool> gaps(header.e_shnum);
    for (unsigned i = 0; i < header.e_shnum; i++) {
        std::string name = name_of(sections[i]);
        gaps[i] = has_gaps(name);
        if (name == "gpunn_constant")
            found.constant = {sections[i].sh_addr, sections[i].sh_addr + sections[i].sh_size};
    }
    for (unsigned i = 0; i < header.e_shnum; i++) {
        const ElfW(Shdr)& table = sections[i];
        if (table.sh_type != SHT_SYMTAB || table.sh_link >= header.e_shnum) continue;
        const ElfW(Shdr)& names = sections[table.sh_link];
        if (!inside(table.sh_offset, table.sh_size) || !inside(names.sh_offset, names.sh_size)) continue;
        const ElfW(Sym)* symbols = (const ElfW(Sym)*)(begin + table.sh_offset);
        for (std::size_t k = 0; k < table.sh_size / sizeof(ElfW(Sym)); k++) {
            std::size_t at = symbols[k].st_value;
            Span span{at, at + symbols[k].st_size};
            unsigned type = symbols[k].st_info & 0xf, section = symbols[k].st_shndx;
            if (type == STT_OBJECT && section < header.e_shnum && gaps[section] && symbols[k].st_size)
                found.device.push_back(span);
            if (type != STT_TLS || symbols[k].st_name >= names.sh_size) continue;
            if (is_guard(begin + names.sh_offset + symbols[k].st_name)) found.guards.push_back(at);
            else if (symbols[k].st_size) found.shared.push_back(span);
        }
    }
    std::sort(found.guards.begin(), found.guards.end());
    for (std::vector<Span>* spans : {&found.shared, &found.device})
        std::sort(spans->begin(), spans->end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
    return found;
}

}  // namespace

const Variables& variables_of(const char* base) {
    static std::unordered_map<std::string, Variables> known;  // one thread checks at a time
    Dl_info info;
    std::string path = dladdr(base, &info) && info.dli_fname ? info.dli_fname : "";
    auto found = known.find(path);
    if (found != known.end()) return found->second;
    std::ifstream file(path, std::ios::binary);
    std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return known[path] = read_variables(content);
}

const Span* variable_before(const std::vector<Span>& variables, std::size_t offset) {
    auto after = std::upper_bound(variables.begin(), variables.end(), offset,
                                  [](std::size_t offset, const Span& variable) { return offset < variable.begin; });
    return after == variables.begin() ? nullptr : &*(after - 1);
}

}  // namespace gpunn_emulator
