// A C++ gRPC server without a model: answers a request with prepared bytes, by the request's length.
//
//     bare_server FOLDER
//
// FOLDER has a file for each length, named after it. Prints its port. What gRPC itself can do, in its callback API.

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

using Answers = std::map<std::size_t, grpc::ByteBuffer>;

class Call : public grpc::ServerGenericBidiReactor {
 public:
  explicit Call(const Answers& answers) : answers_(answers) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    const auto answer = ok ? answers_.find(request_.Length()) : answers_.end();
    if (answer == answers_.end()) {
      Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no answer was prepared for a request of this length"));
      return;
    }
    response_ = answer->second;
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }

  void OnDone() override { delete this; }

 private:
  const Answers& answers_;
  grpc::ByteBuffer request_, response_;
};

class Service : public grpc::CallbackGenericService {
 public:
  explicit Service(const Answers& answers) : answers_(answers) {}

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Call(answers_);
  }

 private:
  const Answers& answers_;
};

int main(int, char** arguments) {
  Answers answers;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), {});
    const grpc::Slice slice(content);
    answers[std::stoul(entry.path().filename())] = grpc::ByteBuffer(&slice, 1);
  }
  Service service(answers);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  std::cout << port << std::endl;
  server->Wait();
}
