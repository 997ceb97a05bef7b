import ArgumentParser
import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport

/// Somebody who asks grapes over kept connections, all of one loop.
struct GrapeClient: Sendable {
  private let client: LoopBound<HTTPClient>

  init(_ tls: TLSConfiguration) async throws {
    let context = try TLSContext(tls)
    let loop = try EventLoopGroup(count: 1).next()
    client = await loop.run { loop in
      var configuration = HTTPClientConfiguration()
      configuration.connectionsPerDestinationMax = 64
      return LoopBound(HTTPClient(context: context, configuration: configuration), on: loop)
    }
  }

  func announce(_ service: String, _ port: Int, to grape: Endpoint) async throws {
    let answer = try await post("/announce", "{\"data\":[\"\(service)\",\(port)]}", to: grape)
    guard Int(answer) != nil else { throw WrongAnswer(description: answer) }
  }

  func lookUp(_ service: String, at grape: Endpoint) async throws -> String {
    try await post("/lookup", "{\"data\":\"\(service)\"}", to: grape)
  }

  /// The page `/status`.
  func status(_ grape: Endpoint) async throws -> GrapeStatus {
    let text = try await post("/status", "", to: grape)
    return try JSONDecoder().decode(GrapeStatus.self, from: Data(text.utf8))
  }

  func post(_ path: String, _ body: String, to grape: Endpoint) async throws -> String {
    let request = HTTPClientRequest(.post, path, body: Array(body.utf8))
    return try await Self.send(request, grape, client, on: client.loop)
  }

  private static func send(
    _ request: HTTPClientRequest, _ grape: Endpoint, _ client: LoopBound<HTTPClient>,
    on loop: isolated EventLoop
  ) async throws -> String {
    let response = try await client.get(on: loop).send(
      request, to: Destination(grape, verification: .name("127.0.0.1")), by: .now() + .seconds(10),
      isRetryable: true, on: loop)
    let text = String(decoding: response.body, as: UTF8.self)
    guard response.status == .ok else { throw WrongAnswer(description: text) }
    return text
  }

  /// Runs lookups, one after the other at each of so many places, for a while.
  ///
  /// - Parameters:
  ///   - lookup: the lookup of a number; the numbers go up from 0.
  ///   - pace: what is waited for before, which does not count.
  /// - Returns: the microseconds that each took, sorted.
  func load(
    inFlight: Int, for time: Duration, _ lookup: @escaping @Sendable (Int) async throws -> Void,
    pacedBy pace: @escaping @Sendable (Int) async throws -> Void = { _ in }
  ) async throws -> [Double] {
    let end = ContinuousClock.now + time
    return try await withThrowingTaskGroup(of: [Double].self) { group in
      for place in 0..<inFlight {
        group.addTask {
          var times: [Double] = []
          var number = place
          while true {
            try await pace(number)
            let start = ContinuousClock.now
            guard start < end else { return times }
            try await lookup(number)
            number += inFlight
            times.append(Double((ContinuousClock.now - start).wholeNanoseconds) / 1e3)
          }
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }.sorted()
    }
  }
}

/// What `/status` tells.
struct GrapeStatus: Decodable {
  var contacts: Int
  var lookupsFinished: Int
  var hopsMean: Double
  var hopsMax: Int
}

struct WrongAnswer: Error, CustomStringConvertible {
  let description: String
}

/// What so many of 100 stay below, of sorted numbers.
func percentile(_ sorted: [Double], _ percent: Int) -> Double {
  sorted.isEmpty ? 0 : sorted[min(sorted.count * percent / 100, sorted.count - 1)]
}
