import CAllocationCount
import Glibc

/// Something that is measured: `run` does it once and says how many operations that was.
struct Case {
  enum Unit: String {
    case operations = "op/s"
    case bytes = "B/s"
  }
  var name: String
  var unit: Unit
  /// What it should reach in a second; 0 for no goal.
  var goal = 0.0
  /// Whether operations may allocate.
  var mayAllocate = false
  /// Prepares, and gives what does it once.
  var prepare: () -> () -> Int
}

struct Measurement {
  var name: String
  var unit: Case.Unit
  var perSecond: Double
  var goal: Double
  /// Per operation, or per run for cases that count bytes.
  var allocations: Double
  var mayAllocate: Bool

  var isGood: Bool { perSecond >= goal && (mayAllocate || allocations == 0) }
}

extension Case {
  func measure(seconds: Double) -> Measurement {
    let run = prepare()
    for _ in 0..<10 { _ = run() }
    let (_, allocations, runs, operations) = part(run, seconds: seconds / 10)
    var best = 0.0
    for _ in 0..<5 { best = max(best, part(run, seconds: seconds / 5).rate) }
    let divisor = unit == .operations ? operations : runs
    return Measurement(
      name: name, unit: unit, perSecond: best, goal: goal,
      allocations: Double(allocations) / Double(max(divisor, 1)), mayAllocate: mayAllocate)
  }

  private func part(
    _ run: () -> Int, seconds: Double
  ) -> (rate: Double, allocations: UInt64, runs: Int, operations: Int) {
    let before = allocation_count()
    let start = Self.processorSeconds()
    var operations = 0
    var runs = 0
    var elapsed = 0.0
    repeat {
      for _ in 0..<8 { operations += run() }
      runs += 8
      elapsed = Self.processorSeconds() - start
    } while elapsed < seconds
    return (Double(operations) / elapsed, allocation_count() - before, runs, operations)
  }

  /// What this thread has had of a core: others that share the machine do not count.
  private static func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
