import Foundation
import Grenache
import TestSupport
import Testing

@Suite("Codable values as the other side writes them", .timeLimit(.minutes(1)))
struct RPCCodingTests {
  private struct Moment: Codable, Hashable, Sendable {
    var happenedAt: Date
  }

  private static var coding: RPCCoding {
    var coding = RPCCoding()
    coding.makeEncoder = {
      let encoder = JSONEncoder()
      encoder.dateEncodingStrategy = .iso8601
      encoder.keyEncodingStrategy = .convertToSnakeCase
      return encoder
    }
    coding.makeDecoder = {
      let decoder = JSONDecoder()
      decoder.dateDecodingStrategy = .iso8601
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      return decoder
    }
    return coding
  }

  @Test("a client and a service with codings of their own, calls, maps and replies as they came")
  func codings() async throws {
    let authority = try TestAuthority()
    let service = RPCService("rpc_test", coding: Self.coding) { (moment: Moment, request) in
      #expect(
        String(decoding: request.payload, as: UTF8.self)
          == "{\"happened_at\":\"1970-01-01T00:00:07Z\"}")
      return Moment(happenedAt: moment.happenedAt + 1)
    }
    let fleet = try await WorkerFleet(
      [service], authority: authority, configure: { $0.coding = Self.coding })
    let sent = Moment(happenedAt: Date(timeIntervalSince1970: 7))
    let expected = Moment(happenedAt: Date(timeIntervalSince1970: 8))
    #expect(try await fleet.client.request("rpc_test", sent) == expected)
    let mapped = try await fleet.client.map("rpc_test", sent, as: Moment.self)
    #expect(try mapped.map { try $0.result.get() } == [expected])
    let payload = Array("{\"happened_at\":\"1970-01-01T00:00:07Z\"}".utf8)
    let reply = try await fleet.client.requestRaw("rpc_test", payload)
    #expect(try reply.decode(Moment.self, coding: Self.coding) == expected)
    #expect(throws: GrenacheError.self) { try reply.decode(Moment.self) }
    await fleet.stop()
  }
}
