import Foundation
import TestSupport
import Testing

@Suite("The examples run, with certificates of their own", .timeLimit(.minutes(2)))
struct ExampleTests {
  private let folder: TemporaryFolder

  init() async throws {
    folder = try TemporaryFolder()
    let made = try await run(
      Programs.grenache, "certs", "--out", folder.path, "--service", "hello", "--service", "news",
      "--service", "upper", "--service", "thermometer", "--service", "greet", "--service",
      "admin:stop")
    #expect(made.status == 0, "\(made.errors)")
  }

  private func startGrape(_ options: String...) async throws -> (RunningGrape, String) {
    let grape = try await RunningGrape(tls: "\(folder.path)/grape", options: options)
    return (grape, grape.api)
  }

  private func example(_ name: String, _ arguments: String...) async throws -> Ended {
    try await run("\(Programs.folder)/\(name)", arguments)
  }

  @Test("streams, publish and subscribe, map")
  func single() async throws {
    let (grape, api) = try await startGrape()
    let worker = "\(folder.path)/worker"
    let streamed = try await example("StreamExample", worker, api)
    #expect(streamed.output == "HELLO, STREAMS", "\(streamed.errors)")
    let published = try await example("PubSubExample", worker, api)
    #expect(published.output == "message 1\nmessage 2\nmessage 3", "\(published.errors)")
    let mapped = try await example("MapExample", worker, api)
    #expect(
      mapped.output == """
        attic: 20 Celsius
        kitchen: 20 Celsius
        remoteError: the thermometer of the cellar is broken
        """, "\(mapped.errors)")
    #expect(await grape.terminate() == 0)
  }

  @Test("hello: a worker and a client")
  func hello() async throws {
    let (grape, api) = try await startGrape()
    let hello = try RunningCommand(
      "\(Programs.folder)/HelloWorker", ["\(folder.path)/worker", api])
    var greeting = ""
    for _ in 0..<50 where !greeting.hasPrefix("Hello") {
      greeting = try await example("HelloClient", "\(folder.path)/client", api, "world").output
    }
    #expect(greeting.hasPrefix("Hello world"), "\(greeting)")
    #expect(await hello.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("values: immutable, mutable, and a writer that came too late")
  func items() async throws {
    let (grape, api) = try await startGrape()
    let stored = try await example("ItemExample", "\(folder.path)/client", api)
    #expect(
      stored.output == """
        6d33adc2b6b2c14c3036feefb7fedbca1a880527: hello world
        number 2: 5 °C
        compareAndSwapFailed
        """, "\(stored.errors)")
    #expect(await grape.terminate() == 0)
  }

  @Test("the allow-list: who may call what, and that none of them may announce")
  func allowList() async throws {
    for name in ["alice", "bob"] {
      let issued = try await run(
        Programs.grenache, "certs", "issue", "\(folder.path)/\(name)", "--ca",
        "\(folder.path)/ca", "--host", "\(name).example")
      #expect(issued.status == 0, "\(issued.errors)")
    }
    let policy = "\(GeneratedCertificates.packageRoot)/Examples/AllowListExample/policy.yaml"
    let (grape, api) = try await startGrape("--access-policy", policy)
    let ended = try await example("AllowListExample", folder.path, api, policy)
    #expect(
      ended.output == """
        alice calls greet: done for DNS:alice.example
        alice calls admin:stop: done for DNS:alice.example
        alice announces greet: notPermitted
        bob calls greet: done for DNS:bob.example
        bob calls admin:stop: notPermitted
        bob announces greet: notPermitted
        client calls greet: notPermitted
        client calls admin:stop: notPermitted
        client announces greet: notPermitted
        """, "\(ended.errors)")
    #expect(await grape.terminate() == 0)
  }
}
