// The blocks of a cluster. Static shared memory is memory of a host thread: each block is on one of its own, so that all
// of them have addresses. One of these threads runs at a time, until its block waits for the others.
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "launch.h"
#include "worker.h"

namespace gpunn_emulator {

class Cluster {
public:
    Cluster(Launch& launch);

    // Of the worker for the blocks of a rank. The first cluster begins when all are there.
    void join(unsigned rank, Worker& worker);
    void give_up();  // one of them cannot be had
    bool is_turn_of(unsigned rank);

    // Whether it is the turn of the block of this rank; false after a moment if it is not.
    bool wait_for_turn(unsigned rank, std::chrono::milliseconds most);
    // To be asked in the turn: the number of the block to begin with, or -1 if there are no more.
    std::int64_t next_block(unsigned rank);
    enum class Left { to_go_on, ended, given_up };
    void pass_turn(unsigned rank, Left left, bool happened);
    void leave(unsigned rank);  // in the turn; then no block of the cluster goes on

    // In the turn: nothing can happen any more, the block that runs is to tell what it waits for.
    bool is_hopeless() const { return hopeless_; }
    bool others_are_there(unsigned rank) const;
    enum class Stage { to_begin, begun, ended };
    Stage stage(unsigned rank) const { return members_[rank].stage; }
    Worker& worker(unsigned rank) const { return *members_[rank].worker; }
    unsigned size() const { return (unsigned)members_.size(); }
    std::int64_t number() const { return number_; }  // among the clusters of the launch
    // The rank of the block in whose shared memory that is, or the size.
    unsigned rank_of(const void* address) const;

    ClusterBarrier barrier;

private:
    struct Member {
        Worker* worker = nullptr;
        Stage stage = Stage::ended;
    };

    void choose_next(unsigned after);
    void begin_cluster();

    Launch& launch_;
    std::vector<Member> members_;
    std::mutex mutex_;
    std::condition_variable turns_;
    unsigned joined_ = 0, in_vain_ = 0;
    unsigned turn_ = ~0u;  // whose it is
    std::int64_t number_ = -1;
    std::uint64_t random_ = 1;
    bool over_ = false, hopeless_ = false;
};

}  // namespace gpunn_emulator
