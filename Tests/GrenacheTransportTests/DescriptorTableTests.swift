import Foundation
import Glibc
import GrenacheTransport
import TestSupport
import Testing

@Suite("P3 The table of descriptors", .timeLimit(.minutes(1)))
struct DescriptorTableTests {
  /// `FDSize` of this process: proc(5).
  private func size() throws -> Int {
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("FDSize:") })
    return try #require(Int(line.dropFirst(7).trimmingCharacters(in: .whitespaces)))
  }

  @Test(
    "holds as many connections as a server takes from the start, or as the process may have",
    arguments: [10, 1_000, 60_000])
  func reserved(_ connections: Int) async throws {
    var limit = rlimit()
    try #require(unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    try await withServer(configure: { $0.connectionsMax = connections }) { _ in
      let size = try size()
      #expect(size >= min(connections, Int(clamping: limit.rlim_cur)))
    }
  }
}
