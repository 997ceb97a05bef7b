import Foundation
import TestSupport
import Testing

@Suite("The examples run", .timeLimit(.minutes(2)))
struct ExampleTests {
  @Test("hello, publish and subscribe, and streams, with certificates of their own")
  func examples() async throws {
    let folder = try TemporaryFolder()
    let made = try await run(
      Programs.grenache, "certs", "--out", folder.path, "--service", "hello", "--service", "news",
      "--service", "upper")
    #expect(made.status == 0, "\(made.errors)")
    let grape = try RunningCommand(
      Programs.grape,
      [
        "--dp", "0", "--aph", "0", "--bn", "", "-b", "127.0.0.1", "--json", "--tls-dir",
        "\(folder.path)/grape",
      ])
    let api = member("api", of: await grape.firstLine())
    let worker = "\(folder.path)/worker"
    let streamed = try await run("\(Programs.folder)/StreamExample", worker, api)
    #expect(streamed.output == "HELLO, STREAMS", "\(streamed.errors)")
    let published = try await run("\(Programs.folder)/PubSubExample", worker, api)
    #expect(
      published.output == "message 1\nmessage 2\nmessage 3", "\(published.errors)")
    let hello = try RunningCommand("\(Programs.folder)/HelloWorker", [worker, api])
    var greeting = ""
    for _ in 0..<50 where !greeting.hasPrefix("Hello") {
      greeting = try await run(
        "\(Programs.folder)/HelloClient", "\(folder.path)/client", api, "world"
      ).output
    }
    #expect(greeting.hasPrefix("Hello world"), "\(greeting)")
    #expect(await hello.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }
}
