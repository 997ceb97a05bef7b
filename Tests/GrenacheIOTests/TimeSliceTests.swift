import CGrenacheLinux
import Glibc
import Testing

@testable import GrenacheIO

@Suite("P38 A loop's slice of its core's time")
struct TimeSliceTests {
  private func time(_ microseconds: Int) -> MonotonicTime {
    MonotonicTime(nanoseconds: 1_000_000_000 + UInt64(microseconds) * 1_000)
  }

  /// When turns end and the next ones begin, in microseconds, with the processor time used by then.
  private typealias Turn = (end: Int, next: Int, used: Int)

  /// Behind which turns others are let run.
  private func yields(_ turns: [Turn]) -> [Bool] {
    var slice = TimeSlice(began: time(0), used: 5_000)
    return turns.map { turn in
      slice.isUsedUp(at: time(turn.next), after: time(turn.end)) {
        5_000 + UInt64(turn.used) * 1_000
      }
    }
  }

  @Test("0.2 ms since the loop began, or since it has let others run")
  func length() {
    #expect(yields([(198, 199, 199)]) == [false])
    #expect(yields([(199, 200, 200)]) == [true])
    #expect(yields([(99, 100, 100), (199, 200, 200)]) == [false, true])
    #expect(yields([(4_999, 5_000, 5_000), (5_198, 5_199, 5_199)]) == [true, false])
    #expect(yields([(4_999, 5_000, 5_000), (5_199, 5_200, 5_200)]) == [true, true])
  }

  @Test("who has waited between two turns, for more than 0.02 ms, begins anew")
  func waits() {
    #expect(yields([(180, 200, 200)]) == [true])
    #expect(yields([(179, 200, 180)]) == [false])
    #expect(yields([(179, 200, 180), (398, 399, 379)]) == [false, false])
    #expect(yields([(179, 200, 180), (399, 400, 380)]) == [false, true])
  }

  @Test("whom others have kept from running has not used its slice")
  func kept() {
    #expect(yields([(3_000, 3_001, 199)]) == [false])
    #expect(yields([(3_000, 3_001, 200)]) == [true])
    #expect(yields([(3_000, 3_001, 150), (3_201, 3_202, 349)]) == [false, false])
    #expect(yields([(3_000, 3_001, 150), (3_201, 3_202, 350)]) == [false, true])
  }

  /// What the kernel says of a thread.
  private struct Scheduling: Equatable, Sendable {
    /// Without the flag that what a thread starts begins anew (`SCHED_RESET_ON_FORK`).
    var policy = sched_getscheduler(0) & 0x3fff_ffff
    var nice = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
    var slice = grenache_slice()
  }

  @Test("a loop has the slice where the kernel grants it, and everything else as it was")
  func granted() async throws {
    let before = Scheduling()
    let loop = try EventLoopGroup(count: 1).loops[0]
    let onLoop = await loop.run { _ in Scheduling() }
    #expect(onLoop.policy == before.policy && onLoop.nice == before.nice)
    guard Self.kernel >= (6, 12) else { return }
    #expect(onLoop.slice == TimeSlice.length.wholeNanoseconds)
  }

  @Test("what a loop starts has the kernel's own slice")
  func inherited() async throws {
    guard Self.kernel >= (6, 12) else { return }
    let loop = try EventLoopGroup(count: 1).loops[0]
    let ofThread = await loop.run { _ in
      var thread = pthread_t()
      var slice: UInt64 = 0
      withUnsafeMutablePointer(to: &slice) { slice in
        let code = pthread_create(
          &thread, nil,
          { slice in
            slice?.assumingMemoryBound(to: UInt64.self).pointee = grenache_slice()
            return nil
          }, slice)
        #expect(code == 0)
        pthread_join(thread, nil)
      }
      return slice
    }
    #expect(ofThread > TimeSlice.length.wholeNanoseconds)
  }

  /// The kernel's version.
  private static let kernel: (Int, Int) = {
    var name = utsname()
    uname(&name)
    let release = withUnsafeBytes(of: &name.release) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    return numbers.count == 2 ? (numbers[0], numbers[1]) : (0, 0)
  }()
}
