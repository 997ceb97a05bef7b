import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("How long a stream may last, and how large its errors may be", .timeLimit(.minutes(1)))
struct RPCStreamLimitsTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func error(_ body: () async throws -> Void) async -> GrenacheError? {
    await #expect(throws: GrenacheError.self) { try await body() }
  }

  @Test(
    "P32 at the end of its time a stream fails with deadlineExceeded; the handler is cancelled",
    arguments: ["", "a part"])
  func lasting(_ said: String) async throws {
    let (told, cancelled) = (Tally(), Tally())
    let service = RPCService(stream: "rpc_test") { request, stream in
      if let left = request.timeLeft, left <= .milliseconds(501) { await told.add() }
      if !said.isEmpty { try await stream.write(Array(said.utf8)) }
      await untilCancelled()
      await cancelled.add(Task.isCancelled ? 1 : 0)
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      let start = ContinuousClock.now
      let error = await error {
        try await client.stream("rpc_test", to: worker, lasting: .milliseconds(500)) { stream in
          for try await part in try await stream.incoming() { #expect(part == Array(said.utf8)) }
        }
      }
      let took = ContinuousClock.now - start
      #expect(error?.code == .deadlineExceeded)
      #expect(took >= .milliseconds(499) && took < .seconds(8))
      await cancelled.reaches(1)
      #expect(await told.value == 1)
    }
  }

  private static func drain(_ incoming: RPCByteStream) async {
    await Task { do { for try await _ in incoming {} } catch {} }.value
  }

  @Test("P32 writing ends as well, and with a worker that knows no deadlines")
  func deafWorker() async throws {
    let ended = Tally()
    let service = RPCService(stream: "rpc_test") { _, stream in
      // Cancelled or not, it goes on until there is nobody left.
      await Self.drain(stream.incoming)
      await ended.add()
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      let error = await error {
        try await client.stream("rpc_test", to: worker, lasting: .milliseconds(300)) { stream in
          while true { try await stream.write([UInt8](repeating: 0, count: 1_000)) }
        }
      }
      #expect(error?.code == .deadlineExceeded)
      await ended.reaches(1)
    }
  }

  @Test("a stream that ends before its time is whole; without one no time is told")
  func inTime() async throws {
    let service = RPCService(stream: "rpc_test") { request, stream in
      for try await part in stream.incoming { try await stream.write(part) }
      let said = request.timeLeft == nil ? " for ever" : " in time"
      try await stream.write(Array(said.utf8))
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      // A day and more is not told.
      for (duration, said) in [
        (.seconds(60), "a in time"), (nil, "a for ever"), (.seconds(86_460), "a for ever"),
      ] as [(Duration?, String)] {
        let text = try await client.stream("rpc_test", to: worker, lasting: duration) { stream in
          try await stream.write(Array("a".utf8))
          await stream.finish()
          var text: [UInt8] = []
          for try await part in try await stream.incoming() { text += part }
          return String(decoding: text, as: UTF8.self)
        }
        #expect(text == said)
      }
    }
  }

  @Test(
    "errorBytesMax: an error of the limit is read, one byte more is no answer", arguments: [0, 1])
  func errorBytes(_ excess: Int) async throws {
    // What stands around the message of a stream whose identifier is `"1"`.
    let around = #"["1","",null]"#.utf8.count
    let message = String(
      repeating: "x", count: RPCClientStream.errorBytesMax - around + excess)
    let service = RPCService(stream: "rpc_test") { _, _ in throw RPCFault(message) }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      let error = await error {
        try await client.stream("rpc_test", to: worker) { stream in
          _ = try await stream.incoming()
        }
      }
      #expect(error?.code == (excess == 0 ? .remoteError : .invalidReply))
      #expect(excess == 1 || error?.message == message)
    }
  }
}
