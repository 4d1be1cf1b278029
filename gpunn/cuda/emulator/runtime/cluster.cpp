#include "cluster.h"

#include <algorithm>

namespace gpunn_emulator {

namespace {

// After so many rounds in which threads only ask for what does not come, it will not.
const unsigned most_rounds_in_vain = 50;

}  // namespace

Cluster::Cluster(Launch& launch) : launch_(launch), members_(launch.cluster_size) {}

void Cluster::join(unsigned rank, Worker& worker) {
    std::lock_guard<std::mutex> lock(mutex_);
    members_[rank].worker = &worker;
    if (++joined_ == size()) begin_cluster();
}

void Cluster::give_up() {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
    turns_.notify_all();
}

bool Cluster::is_turn_of(unsigned rank) {
    std::lock_guard<std::mutex> lock(mutex_);
    return turn_ == rank;
}

bool Cluster::wait_for_turn(unsigned rank, std::chrono::milliseconds most) {
    std::unique_lock<std::mutex> lock(mutex_);
    return turns_.wait_for(lock, most, [&] { return over_ || turn_ == rank; });
}

std::int64_t Cluster::next_block(unsigned rank) {
    if (over_) return -1;
    members_[rank].stage = Stage::begun;
    const unsigned *grid = launch_.request.grid, *size = launch_.request.cluster;
    std::uint64_t x = grid[0] / size[0], y = grid[1] / size[1], number = (std::uint64_t)number_;
    std::uint64_t at_x = number % x * size[0] + rank % size[0];
    std::uint64_t at_y = number / x % y * size[1] + rank / size[0] % size[1];
    std::uint64_t at_z = number / x / y * size[2] + rank / size[0] / size[1];
    return (std::int64_t)((at_z * grid[1] + at_y) * grid[0] + at_x);
}

void Cluster::begin_cluster() {
    number_ = launch_.take_block();
    hopeless_ = false;
    in_vain_ = 0;
    over_ = number_ < 0;
    for (Member& member : members_) member.stage = Stage::to_begin;
    const Request& request = launch_.request;
    random_ = (request.seed + 1) * 0x9e3779b97f4a7c15u + (std::uint64_t)number_ * 0xbf58476d1ce4e5b9u;
    std::uint64_t threads = (std::uint64_t)request.block[0] * request.block[1] * request.block[2];
    barrier = ClusterBarrier{};
    barrier.threads = (unsigned)(threads * size());
    choose_next(request.order == (int)Order::forward ? size() - 1 : 0);
}

void Cluster::pass_turn(unsigned rank, Left left, bool happened) {
    std::lock_guard<std::mutex> lock(mutex_);
    in_vain_ = happened ? 0 : in_vain_ + 1;
    if (left == Left::ended) members_[rank].stage = Stage::ended;
    if (left == Left::given_up)  // its report is enough
        for (Member& member : members_) member.stage = Stage::ended;
    bool all = std::all_of(members_.begin(), members_.end(), [](Member& each) { return each.stage == Stage::ended; });
    if (all) begin_cluster();
    else choose_next(rank);
}

// Who can go on, in the order of the launch.
void Cluster::choose_next(unsigned after) {
    auto can_go_on = [&](unsigned rank) {
        const Member& member = members_[rank];
        if (member.stage != Stage::begun) return member.stage == Stage::to_begin;
        return member.worker->can_go_on(in_vain_ < most_rounds_in_vain * size());
    };
    unsigned step = launch_.request.order == (int)Order::reverse ? size() - 1 : 1;
    if (launch_.request.order == (int)Order::shuffled) {
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        random_ ^= random_ << 17;
        after = (unsigned)((random_ >> 32) % size());
    }
    turn_ = ~0u;
    for (unsigned i = 0; i < size() && turn_ == ~0u; i++) {
        after = (after + step) % size();
        if (can_go_on(after)) turn_ = after;
    }
    hopeless_ = turn_ == ~0u;
    for (unsigned rank = 0; hopeless_ && rank < size(); rank++) {
        if (members_[rank].stage != Stage::begun) continue;
        if (turn_ == ~0u || members_[rank].worker->hangs_more_than(*members_[turn_].worker)) turn_ = rank;
    }
    turns_.notify_all();
}

void Cluster::leave(unsigned rank) {
    std::lock_guard<std::mutex> lock(mutex_);
    members_[rank].stage = Stage::ended;
    over_ = true;
    turns_.notify_all();
}

bool Cluster::others_are_there(unsigned rank) const {
    for (unsigned i = 0; i < size(); i++)
        if (i != rank && members_[i].stage != Stage::ended) return true;
    return false;
}

unsigned Cluster::rank_of(const void* address) const {
    for (unsigned i = 0; i < size(); i++)
        if (members_[i].worker->holds_shared(address)) return i;
    return size();
}

}  // namespace gpunn_emulator
