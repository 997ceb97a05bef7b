import TestSupport
import Testing

@Suite("The options of existing grapes, as they are given", .timeLimit(.minutes(2)))
struct OldOptionTests {
  @Test(
    "a grape starts with all of them, short and long, and keeps to them",
    arguments: [
      ["--dp", "--aph", "--bn", "-b", "--dc", "--dpa", "--dnl"],
      [
        "--dht_port", "--api_port", "--bootstrap", "--bind", "--dht_concurrency",
        "--dht_peer_maxAge", "--dht_nodeLiveness",
      ],
    ])
  func all(_ names: [String]) async throws {
    let values = ["0", "0", "", "127.0.0.1", "16", "1000", "60000"]
    let named = zip(names, values).flatMap { [$0, $1] }
    let grape = try RunningCommand(
      Programs.grape,
      named + [
        "--dht_maxTables", "100", "--dht_maxValues", "100", "--check_maxPayloadSize", "100",
        "--cache_maxAge", "120000", "--json", "--insecure-plaintext",
      ])
    let api = member("api", of: await grape.firstLine())
    for (bytes, status) in [(100, "200"), (101, "413")] {
      let start = "{\"rid\":\"1\",\"data\":\""
      let body = start + String(repeating: "x", count: bytes - start.utf8.count - 2) + "\"}"
      let answer = try await run(
        Programs.curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", body,
        "http://\(api)/lookup")
      #expect(answer.output == status, "\(answer.errors)")
    }
    #expect(await grape.terminate() == 0, "\(grape.errors)")
  }
}
