import Grenache
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@Suite("Deadlines of streams over HTTPS (docs/wire-extensions.md)", .timeLimit(.minutes(1)))
struct RPCStreamDeadlineTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// Says something, or nothing, and waits until it is cancelled.
  private static func waiting(
    says text: String, begun: Tally, cancelled: Tally
  ) -> RPCService {
    RPCService(stream: "rpc_test") { _, stream in
      await begun.add()
      if !text.isEmpty { try await stream.write(Array(text.utf8)) }
      await untilCancelled()
      await cancelled.add(Task.isCancelled ? 1 : 0)
    }
  }

  @Test("P32 the handler is cancelled; nothing sent: the answer says so; else it breaks off")
  func deadline() async throws {
    for text in ["", "a part"] {
      let (begun, cancelled) = (Tally(), Tally())
      let service = Self.waiting(says: text, begun: begun, cancelled: cancelled)
      try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
        let raw = try await RawHTTP(to: worker, tls: try authority.client())
        let start = ContinuousClock.now
        let answer = try? await raw.post(
          "", [("_gr", "[1,\"rpc_test\"]"), ("Grenache-Timeout", "500")])
        #expect(ContinuousClock.now - start < .seconds(8))
        #expect(answer == (text.isEmpty ? "[1,\"ERR_DEADLINE_EXCEEDED: rpc_test\",null]" : nil))
        await cancelled.reaches(1)
        #expect(await begun.value == 1)
      }
    }
  }

  @Test("P32 the handler sees the deadline; a stream that ends before it is whole")
  func inTime() async throws {
    let left = Mutex<Duration?>(nil)
    let service = RPCService(stream: "rpc_test") { request, stream in
      left.withLock { $0 = request.timeLeft }
      for try await part in stream.incoming { try await stream.write(part) }
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let raw = try await RawHTTP(to: worker, tls: try authority.client())
      let fields = ("_gr", "[1,\"rpc_test\"]")
      #expect(try await raw.post("bytes", [fields, ("Grenache-Timeout", "30000")]) == "bytes")
      #expect(try #require(left.withLock { $0 }) > .seconds(10))
      // Without the field there is none.
      #expect(try await raw.post("bytes", [fields]) == "bytes")
      #expect(left.withLock { $0 } == nil)
    }
  }
}
